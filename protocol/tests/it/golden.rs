//! Golden frames: one file per kind, compared with a value made here, read and written in both codecs.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kronos_protocol::event::{TextMessageEnd, TextMessageStart, TextRole};
use kronos_protocol::*;
use serde::Serialize;
use serde_json::Value;

mod client;
mod server;

use client::commands;
use server::{log, notices, refusals, replies};

const SESSION: &str = "01928f3e-7a6b-7c00-9d4e-5f60718293a4";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn fixture(path: &str) -> Value {
    serde_json::from_slice(&fs::read(folder().join(path)).unwrap()).unwrap()
}

fn id<T: for<'a> TryFrom<&'a str, Error = IdError>>(text: &str) -> T {
    T::try_from(text).unwrap()
}

fn session() -> SessionId {
    id(SESSION)
}

fn client_info() -> ClientInfo {
    ClientInfo::new(id::<DeviceName>("kronos-web"), id::<DeviceName>("1.4.0"))
}

fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    replies().into_iter().chain(refusals()).chain(notices()).collect()
}

/// Writes `frame` in both codecs, compares with the file, and reads it back.
fn golden<F, E>(name: &str, frame: &F, read: impl Fn(Codec, &[u8]) -> Result<F, E>)
where
    F: Serialize + PartialEq + Debug,
    E: Debug,
{
    let file = fs::read(folder().join("frames").join(format!("{name}.json"))).unwrap();
    assert_eq!(&read(Codec::Json, &file).unwrap(), frame, "{name}");
    for codec in Codec::ALL.iter().copied() {
        let bytes = codec.encode(frame).unwrap();
        assert_eq!(
            codec.decode_value(&bytes).unwrap(),
            serde_json::from_slice::<Value>(&file).unwrap(),
            "{name} {codec}"
        );
        assert_eq!(&read(codec, &bytes).unwrap(), frame, "{name} {codec}");
    }
}

#[test]
fn client_frames_are_as_in_their_files() {
    for (name, reference, command) in commands() {
        golden(name, &ClientFrame::new(id(reference), command), |codec, bytes| {
            codec.decode_client(bytes)
        });
    }
}

#[test]
fn server_frames_are_as_in_their_files() {
    for (name, frame) in server_frames() {
        golden(name, &frame, |codec, bytes| codec.decode_server(bytes));
    }
}

#[test]
fn every_kind_of_frame_has_a_file_and_every_file_a_frame() {
    let files: BTreeSet<_> = fs::read_dir(folder().join("frames"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let names = commands()
        .into_iter()
        .map(|(name, ..)| name)
        .chain(server_frames().into_iter().map(|(name, _)| name));
    assert_eq!(files, names.map(|name| format!("{name}.json")).collect());
    let ops: BTreeSet<_> = commands().iter().map(|(_, _, command)| command.op()).collect();
    assert_eq!(ops, Op::ALL.iter().copied().collect());
    let ops: BTreeSet<_> = server_frames().iter().map(|(_, frame)| frame.op()).collect();
    assert_eq!(ops, ServerOp::ALL.iter().copied().collect());
}

#[test]
fn borrowed_events_are_written_like_owned_ones() {
    let (session, epoch) = (session(), id::<EpochId>("e_7f"));
    let entries = log();
    let shared: Vec<_> = entries.iter().cloned().map(Arc::new).collect();
    let references: Vec<_> = entries.iter().collect();
    for snapshot in [false, true] {
        let owned = Events {
            snapshot,
            ..Events::new(&session, &epoch, entries.clone())
        };
        let (session, epoch) = (&session, &epoch);
        for codec in Codec::ALL.iter().copied() {
            let expected = codec.encode(&ServerFrame::from(owned.clone())).unwrap();
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &entries
                    })
                    .unwrap(),
                expected
            );
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &shared
                    })
                    .unwrap(),
                expected
            );
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &references
                    })
                    .unwrap(),
                expected
            );
        }
    }
}

#[test]
fn the_example_of_the_protocol_page_is_understood() {
    let conversation = fixture("conversation.json");
    let mut events = Vec::new();
    for step in conversation.as_array().unwrap() {
        let bytes = step["frame"].to_string();
        if step["from"] == "client" {
            Codec::Json.decode_client(bytes.as_bytes()).unwrap();
            continue;
        }
        match Codec::Json.decode_server(bytes.as_bytes()).unwrap() {
            ServerFrame::Events(frame) => events.extend(frame.events),
            ServerFrame::Ok {
                body: OkBody::Welcome(welcome),
                ..
            } => {
                assert_eq!(
                    welcome.limits,
                    Limits {
                        frame_bytes: 65_536,
                        ..Limits::default()
                    }
                );
            }
            ServerFrame::Ok {
                body: OkBody::Attached(_) | OkBody::Sent(_),
                ..
            }
            | ServerFrame::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        events.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let mut verifier = Verifier::new();
    for entry in &events {
        verifier.accept(&entry.event).unwrap();
    }
    let text: [Event; 2] = [
        TextMessageStart {
            role: Some(TextRole::Assistant),
            ..TextMessageStart::new(id::<MessageId>("a_1"))
        }
        .into(),
        TextMessageEnd::new(id::<MessageId>("a_1")).into(),
    ];
    assert_eq!([&events[1].event, &events[3].event], [&text[0], &text[1]]);
}
