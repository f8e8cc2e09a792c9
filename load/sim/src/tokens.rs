//! Tokens of the simulator: a word with the white space after it, or a short run of a script without spaces.

use serde_json::Value;

/// Longest token in characters, so that text without spaces still streams.
const LONGEST: usize = 16;
/// Tokens an image, a file or another part that is not text counts for.
const MEDIA_TOKENS: u32 = 20;

/// Splits a text into tokens; joined together they are the text again.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let (mut start, mut length, mut spaced) = (0, 0, false);
    for (at, c) in text.char_indices() {
        if at > start && ((spaced && !c.is_whitespace()) || length >= LONGEST) {
            tokens.push(&text[start..at]);
            (start, length, spaced) = (at, 0, false);
        }
        spaced |= c.is_whitespace();
        length += if c > '\u{2e7f}' { LONGEST / 2 } else { 1 };
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

/// Estimates the tokens of a prompt text.
pub(crate) fn count(text: &str) -> u32 {
    u32::try_from(split(text).len()).unwrap_or(u32::MAX)
}

/// Estimates the tokens of a Content or a list of them.
pub(crate) fn count_contents(contents: &Value) -> u32 {
    match contents {
        Value::Array(list) => list.iter().map(count_contents).sum(),
        content => content["parts"]
            .as_array()
            .map_or(0, |parts| parts.iter().map(count_part).sum::<u32>())
            .saturating_add(1),
    }
}

fn count_part(part: &Value) -> u32 {
    match part {
        part if part["text"].is_string() => count(part["text"].as_str().unwrap_or_default()),
        part if part["functionCall"].is_object() => count(&part["functionCall"].to_string()) + 4,
        part if part["functionResponse"].is_object() => count(&part["functionResponse"].to_string()) + 4,
        _ => MEDIA_TOKENS,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::split;

    proptest! {
        #[test]
        fn any_text_is_its_tokens_joined(text in "\\PC*|[a-z \n你é]{0,80}") {
            let tokens = split(&text);
            prop_assert!(tokens.iter().all(|token| !token.is_empty()));
            prop_assert_eq!(tokens.concat(), text);
        }
    }

    #[test]
    fn tokens_joined_are_the_text() {
        for text in [
            "",
            " ",
            "one two  three\n\nfour",
            "你好世界你好世界 你好",
            "supercalifragilisticexpialidocious",
            "a\u{2028}b",
        ] {
            assert_eq!(split(text).concat(), text);
        }
        assert_eq!(split("one two three"), ["one ", "two ", "three"]);
    }
}
