//! Any event survives both codecs, and the rules of required fields and null hold for each of its fields.

use kronos_protocol::{Codec, Event, EventKind, Incoming};
use proptest::prelude::*;
use serde_json::Value;

use crate::any_event::{COMMON, FIELDS, any_event, cases, known};

#[test]
fn the_table_of_fields_has_every_event() {
    let kinds: Vec<_> = FIELDS
        .iter()
        .map(|(kind, _)| kind.parse::<EventKind>().unwrap())
        .collect();
    assert_eq!(kinds, EventKind::ALL);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_event_survives_both_codecs(value in any_event()) {
        let event = known(&value);
        prop_assert_eq!(&serde_json::to_value(&event).unwrap(), &value);
        for codec in Codec::ALL {
            prop_assert_eq!(&codec.decode_value(&codec.encode(&event).unwrap()).unwrap(), &value);
        }
        prop_assert_eq!(&serde_json::from_slice::<Event>(&Codec::Json.encode(&event).unwrap()).unwrap(), &event);
        prop_assert_eq!(&rmp_serde::from_slice::<Event>(&Codec::Msgpack.encode(&event).unwrap()).unwrap(), &event);
        prop_assert_eq!(&serde_json::from_value::<Event>(value).unwrap(), &event);
    }

    #[test]
    fn a_required_field_must_be_there_and_null_is_not_it(value in any_event()) {
        let (_, fields) = FIELDS.iter().find(|(kind, _)| value["type"] == *kind).unwrap();
        for field in fields.iter().filter_map(|field| field.strip_prefix('!')) {
            let (name, kind) = field.split_once(' ').unwrap();
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(name);
            let error = Event::decode_value(without).unwrap_err().to_string();
            prop_assert!(error.contains(name) && error.contains("missing"), "{}", error);
            let mut null = value.clone();
            null[name] = Value::Null;
            prop_assert_eq!(Event::decode_value(null).is_ok(), kind == "any", "{}", name);
        }
    }

    #[test]
    fn null_is_absent_for_four_optional_fields_and_refused_for_the_others(value in any_event()) {
        let (_, fields) = FIELDS.iter().find(|(kind, _)| value["type"] == *kind).unwrap();
        let optional = fields.iter().filter(|field| !field.starts_with('!') && **field != "°").chain(COMMON);
        for name in optional.map(|field| field.split_once(' ').unwrap().0) {
            let mut null = value.clone();
            null[name] = Value::Null;
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(name);
            match Event::decode_value(null) {
                Ok(read) => {
                    prop_assert!(["parentMessageId", "outcome", "result", "rawEvent"].contains(&name), "{}", name);
                    prop_assert_eq!(read, Incoming::Known(known(&without)));
                }
                Err(error) => {
                    prop_assert!(!["parentMessageId", "outcome", "result", "rawEvent"].contains(&name), "{}", name);
                    prop_assert!(error.to_string().contains(name), "{}", error);
                }
            }
        }
    }
}
