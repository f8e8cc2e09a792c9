//! How this crate's structs and enums are written and read: two macros and the traits behind them.
//!
//! Serde's derive is not enough here: its errors do not name the field, `flatten` is slow and fails in
//! MessagePack, and an internally tagged enum is always buffered. Nothing that knows a frame or an event belongs here.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde_json::Value;

pub(crate) mod macros;
#[cfg(feature = "schema")]
pub(crate) mod schema;
pub(crate) mod tree;

/// A value whose wire form is a map of fixed fields that may be merged into a bigger flat map.
pub(crate) trait Fields {
    /// How many entries `write` will produce.
    fn count(&self) -> usize;

    /// Writes the entries, without opening or closing the map.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// The reading side of [`Fields`]: takes the rest of an opened map, ignoring what it does not know.
pub(crate) trait FromFields: Sized {
    /// Text for "expected ..." messages.
    const EXPECTING: &'static str;

    /// Reads entries to the end of the map.
    fn read<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

/// An enum told apart by one field of its map.
pub(crate) trait Tagged: Sized {
    /// Name of the telling field.
    const TAG: &'static str;

    /// The values of the telling field that this version knows.
    const KNOWN: &'static [&'static str];

    /// Whether this version knows the value of the telling field.
    fn is_known(tag: &str) -> bool {
        Self::KNOWN.contains(&tag)
    }
}

/// A map key or a word, borrowed from the input where the format can.
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(v)))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v.to_owned())))
            }
            fn visit_string<E: Error>(self, v: String) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Reads a map of known fields from any self-describing format.
pub(crate) struct FieldsVisitor<T>(pub(crate) PhantomData<T>);

impl<'de, T: FromFields> Visitor<'de> for FieldsVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::read(map)
    }
}

/// Reads one field into its slot; a second occurrence is an error, and errors name the field.
pub(crate) fn set<'de, A, T>(slot: &mut Option<T>, name: &'static str, map: &mut A) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = Some(
        map.next_value()
            .map_err(|error| A::Error::custom(format_args!("{name}: {error}")))?,
    );
    Ok(())
}

/// The error for a required field that is not there.
pub(crate) fn missing<E: Error>(name: &'static str) -> E {
    E::custom(format_args!("{name}: required, but missing"))
}

/// One entry, always there.
pub(crate) fn always<T>(_: &T) -> usize {
    1
}

/// One entry when there is a value.
pub(crate) fn if_some<T>(value: &Option<T>) -> usize {
    usize::from(value.is_some())
}

/// A value that is not null: several types of serde_json and serde would take null for empty.
pub(crate) struct NotNull<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NotNull<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NotNullVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NotNullVisitor<T> {
            type Value = NotNull<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value that is not null")
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<NotNull<T>, D::Error> {
                T::deserialize(deserializer).map(NotNull)
            }
        }
        deserializer.deserialize_option(NotNullVisitor(PhantomData))
    }
}

/// Reads an optional field that must not be null, for serde's derive.
pub(crate) fn not_null<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    NotNull::deserialize(deserializer).map(|value| Some(value.0))
}

/// A union member that a newer peer may have added: null and unknown members read as absent.
pub(crate) struct Known<T>(pub(crate) Option<T>);

impl<'de, T: Tagged + Deserialize<'de>> Deserialize<'de> for Known<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() || is_unknown::<T>(&value) {
            return Ok(Self(None));
        }
        tree::read(value)
            .map(|member| Self(Some(member)))
            .map_err(D::Error::custom)
    }
}

/// A list of union members; the unknown ones are left out.
pub(crate) struct KnownList<T>(pub(crate) Vec<T>);

impl<'de, T: Tagged + Deserialize<'de>> Deserialize<'de> for KnownList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<Value>::deserialize(deserializer)?;
        values
            .into_iter()
            .filter(|value| !is_unknown::<T>(value))
            .map(|value| tree::read(value).map_err(D::Error::custom))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn is_unknown<T: Tagged>(value: &Value) -> bool {
    value
        .get(T::TAG)
        .and_then(Value::as_str)
        .is_some_and(|tag| !T::is_known(tag))
}

/// Writes `fields` as a map of their own.
pub(crate) fn write_map<S: serde::Serializer, F: Fields>(fields: &F, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.count()))?;
    fields.write(&mut map)?;
    map.end()
}

/// Writes `fields` as a map that starts with `tag: name`.
pub(crate) fn write_tagged<S, F>(tag: &'static str, name: &str, fields: &F, serializer: S) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
    F: Fields,
{
    let mut map = serializer.serialize_map(Some(fields.count().saturating_add(1)))?;
    map.serialize_entry(tag, name)?;
    fields.write(&mut map)?;
    map.end()
}
