//! New words for old ones: the same length and shape, the same for the same word, and nothing of the old one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

/// Tries for an id that is not taken; after them the shape has hardly any id that is free.
const TRIES: u64 = 10_000;

/// Makes words under a key that is drawn for it and never leaves it.
#[derive(Debug, Default)]
pub(super) struct Words {
    key: RandomState,
    keep_directives: bool,
    ids: HashMap<String, String>,
    taken: HashSet<String>,
}

impl Words {
    pub(super) fn new(keep_directives: bool) -> Self {
        Self {
            keep_directives,
            ..Self::default()
        }
    }

    /// Replaces every word of a text. The simulator's directives are kept, or lose their brackets: what stands in them is
    /// not what it was.
    pub(super) fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, inner, after)) = directive(rest) {
            self.plain(before, &mut out);
            if self.keep_directives {
                out.push_str(&format!("[[{inner}]]"));
            } else {
                out.push_str("((");
                self.plain(inner, &mut out);
                out.push_str("))");
            }
            rest = after;
        }
        self.plain(rest, &mut out);
        out
    }

    fn plain(&self, text: &str, out: &mut String) {
        let mut rest = text;
        while let Some(start) = rest.find(char::is_alphanumeric) {
            let (between, word) = rest.split_at(start);
            out.push_str(between);
            let end = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            out.push_str(&self.word(word));
            rest = after;
        }
        out.push_str(rest);
    }

    /// Replaces a word, or whatever is one to the caller: what is neither letter nor digit is kept.
    pub(super) fn word(&self, word: &str) -> String {
        // The shortest ones have so few others of their shape that the first try may be the word itself.
        let other = (0..100).map(|salt| self.drawn(word, salt)).find(|drawn| drawn != word);
        other.unwrap_or_else(|| self.drawn(word, 0))
    }

    /// One of the words that may stand for this one.
    pub(super) fn drawn(&self, word: &str, salt: u64) -> String {
        // Small and capital letters are the same word.
        let name = word.to_lowercase();
        let place = |(place, c): (usize, char)| other(c, self.key.hash_one((&name, salt, place)));
        word.chars().enumerate().map(place).collect()
    }

    /// Replaces an id, another one for another one.
    pub(super) fn id(&mut self, id: &str) -> String {
        if let Some(known) = self.ids.get(id) {
            return known.clone();
        }
        let (prefix, rest) = prefix(id);
        let drawn = (0..TRIES).map(|salt| format!("{prefix}{}", self.drawn(rest, salt)));
        let found = drawn
            .into_iter()
            .find(|drawn| drawn != id && !self.taken.contains(drawn));
        // An id of hardly any letters: its number among all is an id of its own.
        let new = found.unwrap_or_else(|| format!("{prefix}{}", self.ids.len()));
        self.taken.insert(new.clone());
        self.ids.insert(id.to_owned(), new.clone());
        new
    }

    /// Returns what an id became, if the text is one.
    pub(super) fn known_id(&self, text: &str) -> Option<&String> {
        self.ids.get(text)
    }

    /// Replaces a number by one of as many digits, whose first one is not 0 where it was not.
    pub(super) fn number(&self, number: &str) -> String {
        let end = number.find(['e', 'E']).unwrap_or(number.len());
        let (digits, exponent) = number.split_at(end);
        let drawn = self.word(digits);
        let lead = digits.find(|c: char| c.is_ascii_digit());
        let mended = digits
            .char_indices()
            .zip(drawn.chars())
            .map(|((at, old), new)| match (old, new) {
                ('0', _) if lead == Some(at) => '0',
                ('1', '0') if lead == Some(at) => '2',
                (_, '0') if lead == Some(at) => '1',
                _ => new,
            });
        mended.chain(exponent.chars()).collect()
    }
}

/// Short words before `_` say what kind of id it is.
fn prefix(id: &str) -> (&str, &str) {
    let end = id.find('_').filter(|end| (1..=3).contains(end) && end + 1 < id.len());
    let is_word = |prefix: &&str| prefix.bytes().all(|b| b.is_ascii_lowercase());
    let prefix = end.and_then(|end| id.get(..end)).filter(is_word);
    prefix.map_or(("", id), |prefix| id.split_at(prefix.len() + 1))
}

/// Finds the first directive: what is before it, in its brackets, and behind it.
fn directive(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("[[")?;
    let (inner, after) = rest.split_once("]]")?;
    Some((before, inner, after))
}

/// Another character of the same kind, case and length in UTF-8; what is neither letter nor digit stays.
fn other(c: char, draw: u64) -> char {
    let of = |first: u32, count: u64, step: u32| {
        let offset = u32::try_from(draw % count).unwrap_or(0);
        char::from_u32(first + offset * step)
            .filter(|new| new.len_utf8() == c.len_utf8())
            .unwrap_or(c)
    };
    match (c.len_utf8(), c.is_uppercase(), c.is_lowercase()) {
        _ if !c.is_alphanumeric() => c,
        (1, true, _) => of(u32::from('A'), 26, 1),
        (1, _, true) => of(u32::from('a'), 26, 1),
        (1, ..) => of(u32::from('0'), 10, 1),
        (2, ..) if c.is_numeric() => of(0x660, 10, 1),
        (2, true, _) => of(0xc0, 23, 1),
        (2, _, true) => of(0xe0, 23, 1),
        (2, ..) => of(0x5d0, 27, 1),
        (3, ..) if c.is_numeric() => of(0x966, 10, 1),
        (3, true, _) => of(0x1e00, 75, 2),
        (3, _, true) => of(0x1e01, 75, 2),
        (3, ..) => of(0x4e00, 20_000, 1),
        (..) if c.is_numeric() => of(0x1d7ce, 10, 1),
        _ => of(0x2_0000, 40_000, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_word_becomes_the_same_word() {
        let words = Words::new(false);
        let out = words.text("Hello hello, HELLO (secret42@acme.example) Grüße 東京 😀");
        let parts: Vec<_> = out.split_whitespace().collect();
        assert_eq!(parts[0].to_lowercase(), parts[1].trim_end_matches(','));
        assert_eq!(parts[0].to_uppercase(), parts[2]);
        assert!(out.ends_with(" 😀") && out.contains('@'));
        for old in ["ello", "secret42", "acme", "example", "Grüße", "東京"] {
            assert!(!out.contains(old), "{out}");
        }
    }

    #[test]
    fn directives_are_kept_or_are_none_any_more() {
        let text = "[[tokens 60]] tell me [[503-once]]";
        let kept = Words::new(true).text(text);
        assert!(
            kept.starts_with("[[tokens 60]] ") && kept.ends_with(" [[503-once]]"),
            "{kept}"
        );
        let gone = Words::new(false).text(text);
        assert!(
            !gone.contains("[[") && !gone.contains("tokens") && gone.len() == text.len(),
            "{gone}"
        );
    }

    #[test]
    fn ids_stay_apart_and_tell_their_kind() {
        let mut words = Words::new(false);
        let old: Vec<_> = (0..10).map(|n| format!("m_{n}")).collect();
        let new: HashSet<_> = old.iter().map(|id| words.id(id)).collect();
        assert_eq!(new.len(), 10);
        assert!(new.iter().all(|id| id.starts_with("m_")));
        assert_eq!(words.id("m_3"), words.id("m_3"));
        assert_eq!(words.known_id("m_3").cloned(), Some(words.id("m_3")));
    }

    #[test]
    fn numbers_stay_numbers() {
        let words = Words::new(false);
        for number in ["0", "7", "10", "-10.50", "1e9", "0.25", "123456789"] {
            let new = words.number(number);
            assert_eq!(new.len(), number.len());
            assert!(
                serde_json::from_str::<serde_json::Number>(&new).is_ok(),
                "{number} {new}"
            );
        }
        assert_ne!(words.number("123456789"), "123456789");
    }

    proptest! {
        #[test]
        fn lengths_and_shapes_are_kept(text in "\\PC{0,60}") {
            let new = Words::new(false).text(&text);
            prop_assert_eq!(new.len(), text.len());
            for (old, new) in text.chars().zip(new.chars()) {
                prop_assert_eq!(old.len_utf8(), new.len_utf8());
                prop_assert_eq!(old.is_alphanumeric(), new.is_alphanumeric());
                prop_assert_eq!(old.is_whitespace(), new.is_whitespace());
            }
        }

        #[test]
        fn no_long_word_survives(word in "[A-Za-z0-9]{6,20}", around in "[ .,@/:-]{1,3}") {
            let text = format!("{around}{word}{around}");
            prop_assert!(!Words::new(false).text(&text).contains(&word));
        }
    }
}
