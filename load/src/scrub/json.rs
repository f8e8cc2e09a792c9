//! JSON within texts: arguments and results of tools. Strings, keys and numbers are replaced, and it is still JSON.

use super::words::Words;

/// Replaces what is in a text that is JSON, whole or torn off; its length stays.
pub(super) fn scrub(text: &str, words: &Words) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if c == '"' {
            string(rest, words, &mut out)
        } else if c.is_ascii_digit() || c == '-' {
            let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
            let end = end.unwrap_or(rest.len());
            out.push_str(&words.number(rest.get(..end).unwrap_or_default()));
            end
        } else if c.is_alphanumeric() {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            let word = rest.get(..end).unwrap_or_default();
            let known = ["true", "false", "null"].contains(&word);
            out.push_str(&if known { word.to_owned() } else { words.word(word) });
            end
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// Whether a text is a JSON object or list.
pub(super) fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// How a character of a string is written.
#[derive(Clone, Copy)]
enum Written {
    Plain,
    /// `\n` and its like: kept.
    Escaped,
    /// `\u00e9`: as many of them as it takes.
    Unicode,
}

/// Writes a string with its quotes; returns how many bytes of `text` it is.
fn string(text: &str, words: &Words, out: &mut String) -> usize {
    let mut units: Vec<(char, Written)> = Vec::new();
    let mut at = 1;
    let mut closed = false;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if c == '"' {
            closed = true;
            break;
        }
        if c != '\\' {
            units.push((c, Written::Plain));
            at += c.len_utf8();
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        if let Some((c, length)) = unicode(rest) {
            units.push((c, Written::Unicode));
            at += length;
        } else {
            // The backslash is kept, and what it stands before: a quote, a slash, a letter that means a control character.
            units.push(('\\', Written::Escaped));
            at += 1;
            if let Some(next) = rest.chars().nth(1) {
                units.push((next, Written::Escaped));
                at += next.len_utf8();
            }
        }
    }
    out.push('"');
    write(&units, words, out);
    if closed {
        out.push('"');
        at += 1;
    }
    at
}

fn write(units: &[(char, Written)], words: &Words, out: &mut String) {
    for run in units.chunk_by(|(_, a), (_, b)| matches!(a, Written::Escaped) == matches!(b, Written::Escaped)) {
        let text: String = run.iter().map(|(c, _)| *c).collect();
        if matches!(run.first(), Some((_, Written::Escaped))) {
            out.push_str(&text);
            continue;
        }
        for (new, (_, written)) in words.text(&text).chars().zip(run) {
            if matches!(written, Written::Unicode) {
                let mut buffer = [0; 2];
                for unit in new.encode_utf16(&mut buffer) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(new);
            }
        }
    }
}

/// Reads `\u00e9`, or two of them that are one character; returns it and how long it is written.
fn unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let text = text.get(at..)?.strip_prefix("\\u")?;
        u16::from_str_radix(
            text.get(..4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?,
            16,
        )
        .ok()
    };
    let first = unit(0)?;
    if let Some(Ok(c)) = char::decode_utf16([first]).next() {
        return Some((c, 6));
    }
    let mut both = char::decode_utf16([first, unit(6)?]);
    Some((both.next()?.ok()?, 12))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_was_json_is_json_of_the_same_form() {
        let words = Words::new(false);
        let old = r#"{"owner": "coffee\n\"industry\"", "numbers": [10, -0.5, 1e3, true, null], "town": "caf\u00e9 \ud83d\ude00 \u6771"}"#;
        let new = scrub(old, &words);
        assert_eq!(new.len(), old.len(), "{new}");
        let value: Value = serde_json::from_str(&new).unwrap_or_else(|error| panic!("{error}: {new}"));
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(3), "{new}");
        for gone in ["owner", "numbers", "industry", "coffee"] {
            assert!(!new.contains(gone), "{gone}: {new}");
        }
        assert!(
            new.contains("true, null") && new.contains("\\ud83d\\ude00") && new.contains("\\n\\\""),
            "{new}"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[a-z\\n\"\\\\\u{e9}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec(inner, 0..5).prop_map(|all| {
                    let keyed = all
                        .into_iter()
                        .enumerate()
                        .map(|(n, value)| (format!("key number {n}"), value));
                    Value::Object(keyed.collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_stays_json_of_its_length(value in values()) {
            let old = value.to_string();
            let new = scrub(&old, &Words::new(false));
            prop_assert_eq!(new.len(), old.len());
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&new).is_ok(), "{} {}", old, new);
        }

        #[test]
        fn any_text_keeps_its_length(text in "[\\PC\"\\\\u{}0-9]{0,40}") {
            prop_assert_eq!(scrub(&text, &Words::new(false)).len(), text.len());
        }
    }
}
