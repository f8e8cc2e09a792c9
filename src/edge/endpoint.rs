//! What an endpoint is: its paths and method, its handler, and all that its callers are told about it.
//!
//! The route table and the OpenAPI document are both made from these declarations, so neither can have what the other lacks.

use actix_web::{
    FromRequest, Handler, HttpResponse, Resource, Responder, Route, guard,
    http::{Method, StatusCode},
    web::{self, ServiceConfig},
};
use kronos_protocol::error::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{
    error::ApiError,
    input::{Bounds, Id, Input, Shape, shape},
};

/// What an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Health,
    Auth,
    Users,
    Chat,
    Agent,
    Composio,
    Admin,
    Docs,
}

impl Tag {
    /// Every tag with what it is about, in the order of the document.
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (Self::Health, "Whether the server and what it depends on are well."),
        (Self::Auth, "Accounts and tokens of the caller."),
        (Self::Users, "Accounts, for superusers and for oneself."),
        (
            Self::Chat,
            "Conversations. Each is a session: what happens here is seen live on attached websockets.",
        ),
        (Self::Agent, "Runs that use tools."),
        (Self::Composio, "Connected accounts and tools."),
        (
            Self::Admin,
            "What the server is doing, and what operators do about it. For superusers.",
        ),
        (Self::Docs, "Descriptions of this server."),
    ];

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Auth => "Auth",
            Self::Users => "Users",
            Self::Chat => "Chat",
            Self::Agent => "Agent",
            Self::Composio => "Composio",
            Self::Admin => "Admin",
            Self::Docs => "Documentation",
        }
    }
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Whoever has a token; where guests are served, they.
    Caller,
    /// Whoever has a token: guests have nothing here.
    User,
    /// Superusers.
    Superuser,
}

/// How a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyUse {
    /// It must be there.
    Required,
    /// It may be left out.
    Optional,
    /// Its fields may come in the query instead.
    OrQuery,
}

/// An input as the document needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) shape: fn(Bounds) -> Shape,
    pub(crate) rules: fn(&mut Value),
}

fn asked<T: Input>() -> Asked {
    Asked {
        name: T::NAME,
        shape: shape::<T>,
        rules: T::rules,
    }
}

/// A parameter of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathParameter {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) schema: fn() -> Value,
}

/// A header that a request may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderParameter {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// What it must look like: ECMA 262, anchored.
    pub(crate) pattern: Option<&'static str>,
}

/// What a good answer carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    /// JSON of a type.
    Json {
        schema: fn(&mut SchemaGenerator) -> Schema,
        example: fn() -> Value,
    },
    /// Server-sent events whose data is JSON of a type.
    Events {
        schema: fn(&mut SchemaGenerator) -> Schema,
        example: fn() -> Value,
    },
    /// Something else, as text.
    Text {
        content_type: &'static str,
        example: &'static str,
    },
}

/// A good answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) doc: &'static str,
    /// None: an answer without a body; several: by `Accept` or by a parameter.
    pub(crate) contents: Vec<Content>,
}

/// All that callers are told.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: &'static str,
    pub(crate) tag: Tag,
    pub(crate) summary: &'static str,
    pub(crate) about: &'static str,
    pub(crate) access: Access,
    /// Requests count against the rate limits.
    pub(crate) counted: bool,
    pub(crate) path: Vec<PathParameter>,
    pub(crate) headers: Vec<HeaderParameter>,
    pub(crate) query: Option<Asked>,
    pub(crate) body: Option<(BodyUse, Asked)>,
    pub(crate) answers: Vec<Answer>,
    /// Errors beyond those that follow from the rest.
    pub(crate) fails: Vec<ErrorCode>,
}

/// A method of a path.
pub(crate) struct Endpoint {
    /// The first is the one to use.
    pub(crate) paths: &'static [&'static str],
    pub(crate) method: Method,
    route: Box<dyn Fn() -> Route>,
    /// Another document describes it.
    pub(crate) elsewhere: bool,
    pub(crate) operation: Operation,
}

macro_rules! methods {
    ($( $name:ident $method:ident ),*) => {$(
        #[doc = concat!("Starts an endpoint for ", stringify!($method), ".")]
        pub(crate) fn $name<F, Args>(paths: &'static [&'static str], handler: F) -> Endpoint
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            Endpoint::new(Method::$method, paths, Box::new(move || Route::new().to(handler.clone())))
        }
    )*};
}

methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

impl Endpoint {
    fn new(method: Method, paths: &'static [&'static str], route: Box<dyn Fn() -> Route>) -> Self {
        let operation = Operation {
            id: "",
            tag: Tag::Docs,
            summary: "",
            about: "",
            access: Access::Caller,
            counted: true,
            path: Vec::new(),
            headers: Vec::new(),
            query: None,
            body: None,
            answers: Vec::new(),
            fails: Vec::new(),
        };
        Self {
            paths,
            method,
            route,
            elsewhere: false,
            operation,
        }
    }

    /// Another document than OpenAPI's describes it.
    pub(crate) fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Its `operationId`, its tag, and what it does in a few words.
    pub(crate) fn named(mut self, id: &'static str, tag: Tag, summary: &'static str) -> Self {
        (self.operation.id, self.operation.tag, self.operation.summary) = (id, tag, summary);
        self
    }

    /// What else there is to know: a sentence or more.
    pub(crate) fn about(mut self, about: &'static str) -> Self {
        self.operation.about = about;
        self
    }

    /// Anybody may call.
    pub(crate) fn public(mut self) -> Self {
        self.operation.access = Access::Public;
        self
    }

    /// Only somebody with a token may call, not a guest.
    pub(crate) fn users(mut self) -> Self {
        self.operation.access = Access::User;
        self
    }

    /// Only superusers may call.
    pub(crate) fn superuser(mut self) -> Self {
        self.operation.access = Access::Superuser;
        self
    }

    /// Requests do not count against the rate limits.
    pub(crate) fn uncounted(mut self) -> Self {
        self.operation.counted = false;
        self
    }

    /// A parameter of its paths: `{name}`.
    pub(crate) fn path<T: Id>(mut self, name: &'static str, doc: &'static str) -> Self {
        let schema = T::schema;
        self.operation.path.push(PathParameter { name, doc, schema });
        self
    }

    /// A header that it reads.
    pub(crate) fn header(mut self, name: &'static str, doc: &'static str, pattern: Option<&'static str>) -> Self {
        self.operation.headers.push(HeaderParameter { name, doc, pattern });
        self
    }

    /// What it reads from the query.
    pub(crate) fn query<T: Input>(mut self) -> Self {
        self.operation.query = Some(asked::<T>());
        self
    }

    /// What it reads from the body.
    pub(crate) fn body<T: Input>(mut self) -> Self {
        self.operation.body = Some((BodyUse::Required, asked::<T>()));
        self
    }

    /// What it reads from the body if there is one.
    pub(crate) fn optional_body<T: Input>(mut self) -> Self {
        self.operation.body = Some((BodyUse::Optional, asked::<T>()));
        self
    }

    /// What it reads from the body or from the query.
    pub(crate) fn body_or_query<T: Input>(mut self) -> Self {
        self.operation.body = Some((BodyUse::OrQuery, asked::<T>()));
        self
    }

    /// A good answer of a type.
    pub(crate) fn returns<T: JsonSchema>(self, status: u16, doc: &'static str, example: fn() -> Value) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        self.answer(status, doc, vec![Content::Json { schema, example }])
    }

    /// Server-sent events whose data is JSON of a type; `example` is one event: `{id, data}`.
    pub(crate) fn streams<T: JsonSchema>(self, status: u16, doc: &'static str, example: fn() -> Value) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        self.answer(status, doc, vec![Content::Events { schema, example }])
    }

    /// A good answer of another content type.
    pub(crate) fn sends(
        self,
        status: u16,
        doc: &'static str,
        content_type: &'static str,
        example: &'static str,
    ) -> Self {
        self.answer(status, doc, vec![Content::Text { content_type, example }])
    }

    /// A good answer without a body.
    pub(crate) fn empty(self, status: u16, doc: &'static str) -> Self {
        self.answer(status, doc, Vec::new())
    }

    /// Adds an answer; one of the same status is joined with it.
    fn answer(mut self, status: u16, doc: &'static str, contents: Vec<Content>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        match self.operation.answers.iter_mut().find(|answer| answer.status == status) {
            Some(answer) => answer.contents.extend(contents),
            None => self.operation.answers.push(Answer { status, doc, contents }),
        }
        self
    }

    /// Errors beyond those that follow from the rest.
    pub(crate) fn fails(mut self, codes: &[ErrorCode]) -> Self {
        self.operation.fails.extend_from_slice(codes);
        self
    }
}

/// Registers endpoints: a resource for each set of paths, with 405 and `Allow` for every other method.
pub(crate) fn register(app: &mut ServiceConfig, endpoints: Vec<Endpoint>) {
    let mut groups: Vec<(&'static [&'static str], Vec<Endpoint>)> = Vec::new();
    for endpoint in endpoints {
        match groups.iter_mut().find(|(paths, _)| *paths == endpoint.paths) {
            Some((_, group)) => group.push(endpoint),
            None => groups.push((endpoint.paths, vec![endpoint])),
        }
    }
    for (paths, group) in groups {
        app.service(resource(paths, &group));
    }
}

fn resource(paths: &'static [&'static str], group: &[Endpoint]) -> Resource {
    let mut allowed = Vec::new();
    let mut resource = Resource::new(paths.to_vec());
    for endpoint in group {
        let route = (endpoint.route)();
        if endpoint.method == Method::GET {
            resource = resource.route(route.guard(guard::Any(guard::Get()).or(guard::Head())));
            allowed.extend([Method::GET, Method::HEAD]);
        } else {
            resource = resource.route(route.method(endpoint.method.clone()));
            allowed.push(endpoint.method.clone());
        }
    }
    resource.default_service(web::to(move || {
        let error = ApiError::method_not_allowed(&allowed);
        async move { Err::<HttpResponse, _>(error) }
    }))
}
