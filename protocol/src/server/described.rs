//! JSON schemas of the server's frames.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{CaughtUp, Events, Goaway, OkKind, Presence, ServerFrame, ServerOp, WireError};
use crate::ids::Ref;
use crate::wire::schema::{DescribeFields, Object};

const REF: &[&str] = &["The command's `ref`."];

/// An `ok` without fields of its own.
pub(super) struct Done;

impl DescribeFields for Done {
    const NAME: &'static str = "Done";
    const DOC: &'static [&'static str] =
        &["The reply to `detach`, `unqueue` and `typing`: nothing but that it was done."];

    fn describe(_: &mut Object<'_>) {}
}

/// An `ok` frame with the body `T`.
pub(super) struct OkFrame<T>(PhantomData<T>);

impl<T: DescribeFields> JsonSchema for OkFrame<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Ok{}", T::NAME.trim_end_matches("Reply")).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut object = Object::new(generator);
        object.word("op", ServerOp::Ok.as_str());
        object.required::<Ref>("ref", REF);
        T::describe(&mut object);
        object.finish(T::DOC)
    }
}

/// An `error` frame.
struct ErrorFrame;

impl JsonSchema for ErrorFrame {
    fn schema_name() -> Cow<'static, str> {
        "ErrorFrame".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut object = Object::new(generator);
        object.word("op", ServerOp::Error.as_str());
        object.any::<Option<Ref>>(
            "ref",
            &["The command's `ref`; null when it had none that could be read."],
        );
        WireError::describe(&mut object);
        if object.is_read() {
            object.may_miss("ref");
        }
        object.finish(&["`error`: a command was refused, or, with `ref: null`, something about no command went wrong."])
    }
}

/// A frame that is no reply.
struct Notice<T>(PhantomData<T>);

trait NoticeFields: DescribeFields {
    const OP: ServerOp;
    const ABOUT: &'static [&'static str];
}

impl<T: NoticeFields> JsonSchema for Notice<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Frame", T::NAME).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut object = Object::new(generator);
        object.word("op", T::OP.as_str());
        T::describe(&mut object);
        // Frames leave it out when it is false.
        object.may_miss("snapshot");
        object.finish(T::ABOUT)
    }
}

impl NoticeFields for Events {
    const OP: ServerOp = ServerOp::Events;
    const ABOUT: &'static [&'static str] = &["`events`: one or more entries of a session's log, in order."];
}

impl NoticeFields for CaughtUp {
    const OP: ServerOp = ServerOp::CaughtUp;
    const ABOUT: &'static [&'static str] =
        &["`caught_up`: everything that was there when `attach` was answered has been sent; what follows is live."];
}

impl NoticeFields for Presence {
    const OP: ServerOp = ServerOp::Presence;
    const ABOUT: &'static [&'static str] =
        &["`presence`: who else follows a session; at most once a second, never stored."];
}

impl NoticeFields for Goaway {
    const OP: ServerOp = ServerOp::Goaway;
    const ABOUT: &'static [&'static str] = &["`goaway`: the server goes away. Finish reading, then connect again."];
}

impl ServerOp {
    /// Returns the schema of the frame; of `ok` any of its bodies.
    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Self::Ok => {
                let bodies: Vec<_> = OkKind::ALL.iter().map(|kind| kind.schema(generator)).collect();
                json_schema!({ "anyOf": bodies })
            }
            Self::Error => generator.subschema_for::<ErrorFrame>(),
            Self::Events => generator.subschema_for::<Notice<Events>>(),
            Self::CaughtUp => generator.subschema_for::<Notice<CaughtUp>>(),
            Self::Presence => generator.subschema_for::<Notice<Presence>>(),
            Self::Goaway => generator.subschema_for::<Notice<Goaway>>(),
        }
    }
}

impl JsonSchema for ServerFrame {
    fn schema_name() -> Cow<'static, str> {
        "ServerFrame".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let frames: Vec<_> = ServerOp::ALL.iter().map(|op| op.schema(generator)).collect();
        json_schema!({
            "description": "A frame from the server: an object with `op` and the fields beside it.",
            "anyOf": frames,
        })
    }
}
