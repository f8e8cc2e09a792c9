//! The macros that declare wire structs, tagged enums and closed sets of words.

/// Declares a struct whose wire form is a map.
///
/// Sections, each optional and in this order: `required` (must be there, and not null), `any`
/// (required, any JSON with null), `listed` (required list; unknown union
/// members are left out), `constant` (required, but `new` knows it), `defaulted` (absent and null read as the given
/// value; always written), `optional` (absent is `None`;
/// null is refused), `nullable` (null reads as absent), `known` (like nullable; an unknown union member is absent too).
macro_rules! wire_struct {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),+ $(,)?)])*
        $vis:vis struct $name:ident {
            $(required { $( $(#[doc = $rm:literal])* $rf:ident : $rt:ty = $rw:literal ),* $(,)? })?
            $(any { $( $(#[doc = $am:literal])* $af:ident : $at:ty = $aw:literal ),* $(,)? })?
            $(listed { $( $(#[doc = $lm:literal])* $lf:ident : $lt:ty = $lw:literal ),* $(,)? })?
            $(constant { $( $(#[doc = $cm:literal])* $cf:ident : $ct:ty = $cw:literal is $cv:expr ),* $(,)? })?
            $(defaulted { $( $(#[doc = $dm:literal])* $df:ident : $dt:ty = $dw:literal or $dv:expr ),* $(,)? })?
            $(optional { $( $(#[doc = $om:literal])* $of:ident : $ot:ty = $ow:literal ),* $(,)? })?
            $(nullable { $( $(#[doc = $nm:literal])* $nf:ident : $nt:ty = $nw:literal ),* $(,)? })?
            $(known { $( $(#[doc = $km:literal])* $kf:ident : $kt:ty = $kw:literal ),* $(,)? })?
        }
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),+)])*
        $vis struct $name {
            $( $( $(#[doc = $rm])* $vis $rf: $rt, )* )?
            $( $( $(#[doc = $am])* $vis $af: $at, )* )?
            $( $( $(#[doc = $lm])* $vis $lf: Vec<$lt>, )* )?
            $( $( $(#[doc = $cm])* $vis $cf: $ct, )* )?
            $( $( $(#[doc = $dm])* $vis $df: $dt, )* )?
            $( $( $(#[doc = $om])* $vis $of: Option<$ot>, )* )?
            $( $( $(#[doc = $nm])* $vis $nf: Option<$nt>, )* )?
            $( $( $(#[doc = $km])* $vis $kf: Option<$kt>, )* )?
        }

        impl $name {
            #[doc = concat!("Returns a `", stringify!($name), "` of its required fields; every optional one is absent.")]
            #[must_use]
            $vis fn new(
                $( $( $rf: impl Into<$rt>, )* )?
                $( $( $af: impl Into<$at>, )* )?
                $( $( $lf: impl Into<Vec<$lt>>, )* )?
            ) -> Self {
                Self {
                    $( $( $rf: $rf.into(), )* )?
                    $( $( $af: $af.into(), )* )?
                    $( $( $lf: $lf.into(), )* )?
                    $( $( $cf: $cv, )* )?
                    $( $( $df: $dv, )* )?
                    $( $( $of: None, )* )?
                    $( $( $nf: None, )* )?
                    $( $( $kf: None, )* )?
                }
            }
        }

        impl $crate::wire::Fields for $name {
            fn count(&self) -> usize {
                [
                    $( $( $crate::wire::always(&self.$rf), )* )?
                    $( $( $crate::wire::always(&self.$af), )* )?
                    $( $( $crate::wire::always(&self.$lf), )* )?
                    $( $( $crate::wire::always(&self.$cf), )* )?
                    $( $( $crate::wire::always(&self.$df), )* )?
                    $( $( $crate::wire::if_some(&self.$of), )* )?
                    $( $( $crate::wire::if_some(&self.$nf), )* )?
                    $( $( $crate::wire::if_some(&self.$kf), )* )?
                ]
                .iter()
                .sum()
            }

            fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( $( map.serialize_entry($rw, &self.$rf)?; )* )?
                $( $( map.serialize_entry($aw, &self.$af)?; )* )?
                $( $( map.serialize_entry($lw, &self.$lf)?; )* )?
                $( $( map.serialize_entry($cw, &self.$cf)?; )* )?
                $( $( map.serialize_entry($dw, &self.$df)?; )* )?
                $( $( if let Some(value) = &self.$of { map.serialize_entry($ow, value)?; } )* )?
                $( $( if let Some(value) = &self.$nf { map.serialize_entry($nw, value)?; } )* )?
                $( $( if let Some(value) = &self.$kf { map.serialize_entry($kw, value)?; } )* )?
                Ok(())
            }
        }

        impl $crate::wire::FromFields for $name {
            const EXPECTING: &'static str = concat!("an object with the fields of ", stringify!($name));

            fn read<'de, A: serde::de::MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
                $( $( let mut $rf: Option<$crate::wire::NotNull<$rt>> = None; )* )?
                $( $( let mut $af: Option<$at> = None; )* )?
                $( $( let mut $lf: Option<$crate::wire::KnownList<$lt>> = None; )* )?
                $( $( let mut $cf: Option<$ct> = None; )* )?
                $( $( let mut $df: Option<Option<$dt>> = None; )* )?
                $( $( let mut $of: Option<$crate::wire::NotNull<$ot>> = None; )* )?
                $( $( let mut $nf: Option<Option<$nt>> = None; )* )?
                $( $( let mut $kf: Option<$crate::wire::Known<$kt>> = None; )* )?
                while let Some(key) = map.next_key::<$crate::wire::Key<'de>>()? {
                    match key.0.as_ref() {
                        $( $( $rw => $crate::wire::set(&mut $rf, $rw, &mut map)?, )* )?
                        $( $( $aw => $crate::wire::set(&mut $af, $aw, &mut map)?, )* )?
                        $( $( $lw => $crate::wire::set(&mut $lf, $lw, &mut map)?, )* )?
                        $( $( $cw => $crate::wire::set(&mut $cf, $cw, &mut map)?, )* )?
                        $( $( $dw => $crate::wire::set(&mut $df, $dw, &mut map)?, )* )?
                        $( $( $ow => $crate::wire::set(&mut $of, $ow, &mut map)?, )* )?
                        $( $( $nw => $crate::wire::set(&mut $nf, $nw, &mut map)?, )* )?
                        $( $( $kw => $crate::wire::set(&mut $kf, $kw, &mut map)?, )* )?
                        _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                    }
                }
                Ok(Self {
                    $( $( $rf: $rf.ok_or_else(|| $crate::wire::missing($rw))?.0, )* )?
                    $( $( $af: $af.ok_or_else(|| $crate::wire::missing($aw))?, )* )?
                    $( $( $lf: $lf.ok_or_else(|| $crate::wire::missing($lw))?.0, )* )?
                    $( $( $cf: $cf.ok_or_else(|| $crate::wire::missing($cw))?, )* )?
                    $( $( $df: $df.flatten().unwrap_or_else(|| $dv), )* )?
                    $( $( $of: $of.map(|value| value.0), )* )?
                    $( $( $nf: $nf.flatten(), )* )?
                    $( $( $kf: $kf.and_then(|known| known.0), )* )?
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::wire::write_map(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map($crate::wire::FieldsVisitor::<Self>(std::marker::PhantomData))
            }
        }

        #[cfg(feature = "schema")]
        impl $crate::wire::schema::DescribeFields for $name {
            const NAME: &'static str = stringify!($name);
            const DOC: &'static [&'static str] = &[$( $doc ),*];

            fn describe(_object: &mut $crate::wire::schema::Object<'_>) {
                $( $( _object.required::<$rt>($rw, &[$( $rm ),*]); )* )?
                $( $( _object.any::<$at>($aw, &[$( $am ),*]); )* )?
                $( $( _object.listed::<$lt>($lw, &[$( $lm ),*]); )* )?
                $( $( _object.required::<$ct>($cw, &[$( $cm ),*]); )* )?
                $( $( _object.defaulted::<$dt>($dw, &[$( $dm ),*], &$dv); )* )?
                $( $( _object.optional::<$ot>($ow, &[$( $om ),*]); )* )?
                $( $( _object.nullable::<$nt>($nw, &[$( $nm ),*]); )* )?
                $( $( _object.known::<$kt>($kw, &[$( $km ),*]); )* )?
            }
        }

        $crate::wire::macros::json_schema_of!($name, generator => $crate::wire::schema::of_fields::<Self>(generator));
    };
}

/// Implements the schema of a type: its name, and how its schema is made.
macro_rules! json_schema_of {
    ($name:ident, $generator:ident => $schema:expr) => {
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_id() -> std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($name)).into()
            }

            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

/// Declares an enum of wire structs told apart by one field, which is written first.
///
/// Reading streams when that field comes first, as it does in everything this crate writes; else the map is buffered.
macro_rules! wire_enum {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),+ $(,)?)])*
        pub enum $name:ident by $tag:literal {
            $( $(#[doc = $vm:literal])* $variant:ident($inner:ident) = $wire:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),+)])*
        pub enum $name {
            $( $(#[doc = $vm])* $variant($inner), )*
        }

        impl $crate::wire::Tagged for $name {
            const TAG: &'static str = $tag;
            const KNOWN: &'static [&'static str] = &[$( $wire ),*];

            fn is_known(tag: &str) -> bool {
                matches!(tag, $( $wire )|*)
            }
        }

        impl $name {
            fn read_as<'de, A: serde::de::MapAccess<'de>>(tag: &str, map: A) -> Result<Self, A::Error> {
                match tag {
                    $( $wire => <$inner as $crate::wire::FromFields>::read(map).map(Self::$variant), )*
                    _ => Err(serde::de::Error::unknown_variant(tag, <Self as $crate::wire::Tagged>::KNOWN)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(inner) => $crate::wire::write_tagged($tag, $wire, inner, serializer), )*
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TagVisitor;
                impl<'de> serde::de::Visitor<'de> for TagVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an object with the field ", $tag))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut before = serde_json::Map::new();
                        while let Some(key) = map.next_key::<$crate::wire::Key<'de>>()? {
                            if key.0 == $tag {
                                let tag = map.next_value::<$crate::wire::Key<'de>>()?;
                                let rest = $crate::wire::tree::Chained::new(before, map);
                                return $name::read_as(tag.0.as_ref(), rest);
                            }
                            let value = map.next_value()?;
                            if before.insert(key.0.into_owned(), value).is_some() {
                                return Err(serde::de::Error::custom("a field occurs twice"));
                            }
                        }
                        Err($crate::wire::missing($tag))
                    }
                }
                deserializer.deserialize_map(TagVisitor)
            }
        }

        $(
            impl From<$inner> for $name {
                fn from(inner: $inner) -> Self {
                    Self::$variant(inner)
                }
            }

            #[cfg(feature = "schema")]
            impl $crate::wire::schema::MemberOf<$name> for $inner {
                const WORD: &'static str = $wire;
            }
        )*

        $crate::wire::macros::json_schema_of!($name, generator => {
            let members = vec![
                $( generator.subschema_for::<$crate::wire::schema::Member<$name, $inner>>() ),*
            ];
            $crate::wire::schema::one_of(&[$( $doc ),*], members)
        });
    };
}

/// Implements serde for enums of struct variants with a telling field, whose derives are marked `remote = "Self"`.
///
/// The derive alone would also read a list of the fields, and the number of a variant instead of its name.
macro_rules! object_enums {
    ($( $name:ident ),* $(,)?) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let fields = <serde_json::Map<String, serde_json::Value> as serde::Deserialize>::deserialize(deserializer)?;
                let tree = $crate::wire::tree::Tree(serde_json::Value::Object(fields));
                Self::deserialize(tree).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Declares a closed set of words: an enum with `as_str`, `ALL`, `Display`, `FromStr` and serde as a string.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),+ $(,)?)])*
        pub enum $name:ident : $what:literal {
            $( $(#[doc = $vm:literal])* $(#[default $($default:lifetime)*])? $variant:ident = $wire:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),+)])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[doc = $vm])* $(#[default $($default)*])? $variant, )*
        }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            const WORDS: &'static [&'static str] = &[$( $wire ),*];

            /// Returns the word on the wire, also used as a metric label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $wire, )*
                }
            }

            /// Returns what the word means: the sentences of its documentation.
            #[cfg(feature = "schema")]
            #[must_use]
            pub fn about(self) -> String {
                $crate::wire::schema::text(match self {
                    $( Self::$variant => &[$( $vm ),*], )*
                })
            }
        }

        $crate::wire::macros::json_schema_of!($name, _generator =>
            $crate::wire::schema::words(&[$( $doc ),*], &[$( ($wire, &[$( $vm ),*]) ),*])
        );

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $wire => Ok(Self::$variant), )*
                    _ => Err($crate::UnknownWord::new($what, Self::WORDS)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <$crate::wire::Key<'de> as serde::Deserialize>::deserialize(deserializer)?;
                word.0.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {json_schema_of, object_enums, wire_enum, wire_struct, words};
