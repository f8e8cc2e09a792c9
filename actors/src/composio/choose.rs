//! Which of many tools a run is offered. Pure: no requests, no clock.

use std::cmp::Reverse;

use super::{Offered, catalogue::KitTool, failure::ComposioError};
use crate::tools::{BUILTIN, Tool};

/// Shorter words of a hint say nothing.
const SHORTEST_WORD: usize = 3;
/// Shorter ones are in every description, in bytes.
const LONG_WORD: usize = 5;
/// Words that say nothing, in hints and in names of tools.
const EMPTY_WORDS: &[&str] = &[
    "about", "all", "and", "any", "are", "can", "could", "does", "for", "from", "has", "have", "how", "into", "its",
    "not", "our", "please", "that", "the", "their", "them", "then", "there", "this", "was", "what", "when", "where",
    "which", "who", "will", "with", "would", "you", "your",
];
/// Words of a hint that are looked at.
const HINT_WORDS: usize = 64;

/// A toolkit's tools on their way into an offer.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// The user has an account for it, or it needs none.
    pub(super) connected: bool,
    /// Its tools.
    pub(super) tools: &'a [KitTool],
}

/// Chooses at most `most` tools: first those of connected toolkits, then those that fit the hint or are important, the
/// toolkits taking turns where that is equal. What was chosen is in the order of names.
pub(super) fn choose(candidates: &[Candidate<'_>], hint: &str, most: usize) -> Vec<Tool> {
    let words = words(hint);
    let mut ranked = Vec::new();
    for candidate in candidates {
        let offered = candidate.tools.iter().filter(|tool| tool.offered);
        let mut scored: Vec<_> = offered.map(|tool| (Reverse(score(tool, &words)), tool)).collect();
        scored.sort_by_key(|(score, tool)| (*score, tool.tool.name.as_str()));
        let places = scored.into_iter().enumerate();
        ranked.extend(places.map(|(place, (score, tool))| (!candidate.connected, score, place, tool)));
    }
    ranked.sort_by_key(|(apart, score, place, tool)| (*apart, *score, *place, tool.tool.name.as_str()));
    let mut chosen: Vec<Tool> = ranked
        .into_iter()
        .take(most)
        .map(|(.., tool)| tool.tool.clone())
        .collect();
    chosen.sort_by(|a, b| (&a.toolkit, &a.name).cmp(&(&b.toolkit, &b.name)));
    chosen.dedup_by(|a, b| a.name == b.name);
    chosen
}

/// How well a tool fits: a word of its name counts most, then being important, then a long word of its description.
fn score(tool: &KitTool, words: &[String]) -> u32 {
    let in_name = |word: &String| tool.words.iter().any(|own| own == word || stem(own) == stem(word));
    let in_text = |word: &String| word.len() >= LONG_WORD && tool.text.contains(word.as_str());
    let fits = words
        .iter()
        .map(|word| if in_name(word) { 4 } else { u32::from(in_text(word)) });
    fits.sum::<u32>() + if tool.important { 3 } else { 0 }
}

/// "issues" and "issue" are one word.
fn stem(word: &str) -> &str {
    word.strip_suffix('s').unwrap_or(word)
}

/// The words of a text, in lower case, each once.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if word.chars().count() < SHORTEST_WORD {
            continue;
        }
        let word = word.to_lowercase();
        if !EMPTY_WORDS.contains(&word.as_str()) && !words.contains(&word) {
            words.push(word);
        }
        if words.len() == HINT_WORDS {
            break;
        }
    }
    words
}

fn named(toolkits: Option<&[String]>) -> impl Iterator<Item = &str> {
    let named = toolkits.unwrap_or_default().iter().map(String::as_str);
    named.filter(|toolkit| *toolkit != BUILTIN)
}

/// The offer of a server without a key.
pub(super) fn without_key(toolkits: Option<&[String]>) -> Offered {
    let missing = |toolkit| format!("The tools of {toolkit} cannot be had: Composio is not configured on this server.");
    Offered {
        tools: Vec::new(),
        missing: named(toolkits).map(missing).collect(),
    }
}

/// The offer when nothing is known at all.
pub(super) fn without_answer(toolkits: Option<&[String]>, error: &ComposioError) -> Offered {
    let mut missing: Vec<String> = named(toolkits).map(|toolkit| unavailable(toolkit, error)).collect();
    if missing.is_empty() && toolkits.is_none() {
        missing.push(format!("The tools of connected accounts cannot be had: {error}."));
    }
    Offered {
        tools: Vec::new(),
        missing,
    }
}

/// Why a toolkit's tools are not there.
pub(super) fn unavailable(toolkit: &str, error: &ComposioError) -> String {
    format!("The tools of {toolkit} cannot be had: {error}.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    fn tool(toolkit: &str, name: &str, description: &str, important: bool) -> KitTool {
        let tool = Tool {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: None,
            toolkit: toolkit.to_owned(),
            version: Some("20251027_00".to_owned()),
            read_only: false,
            asks: true,
            repeatable: false,
        };
        KitTool {
            words: words(&name.replace('_', " ")),
            text: description.to_lowercase(),
            title: name.to_owned(),
            input: Arc::new(Value::Null),
            output: Arc::new(Value::Null),
            important,
            no_auth: false,
            offered: true,
            tool,
        }
    }

    fn names(tools: &[Tool]) -> Vec<&str> {
        tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    #[test]
    fn connected_toolkits_come_first_then_what_fits_then_what_is_important() {
        let github = [
            tool("github", "GITHUB_CREATE_AN_ISSUE", "Creates an issue", true),
            tool("github", "GITHUB_STAR_A_REPOSITORY", "Stars", false),
        ];
        let slack = [tool("slack", "SLACK_SEND_MESSAGE", "Sends a message", true)];
        let candidates = [
            Candidate {
                connected: false,
                tools: &slack,
            },
            Candidate {
                connected: true,
                tools: &github,
            },
        ];
        assert_eq!(
            names(&choose(&candidates, "send a message", 1)),
            ["GITHUB_CREATE_AN_ISSUE"]
        );
        assert_eq!(
            names(&choose(&candidates, "please star the repository", 1)),
            ["GITHUB_STAR_A_REPOSITORY"]
        );
        let all = choose(&candidates, "", 32);
        assert_eq!(
            names(&all),
            [
                "GITHUB_CREATE_AN_ISSUE",
                "GITHUB_STAR_A_REPOSITORY",
                "SLACK_SEND_MESSAGE"
            ],
            "in the order of toolkits and names"
        );
    }

    #[test]
    fn the_number_of_tools_has_its_bound_and_toolkits_take_turns() {
        let many = |kit: &str| -> Vec<KitTool> {
            (0..40)
                .map(|n| tool(kit, &format!("{}_{n:02}", kit.to_uppercase()), "", false))
                .collect()
        };
        let (a, b) = (many("aaa"), many("bbb"));
        let candidates = [
            Candidate {
                connected: true,
                tools: &a,
            },
            Candidate {
                connected: true,
                tools: &b,
            },
        ];
        for most in [31, 32, 33, 80, 81] {
            let chosen = choose(&candidates, "", most);
            assert_eq!(chosen.len(), most.min(80));
            let of_a = chosen.iter().filter(|tool| tool.toolkit == "aaa").count();
            assert!(of_a.abs_diff(chosen.len() - of_a) <= 1, "{of_a} of {most}");
        }
    }

    #[test]
    fn what_cannot_be_offered_is_not() {
        let mut hidden = tool("gmail", "GMAIL_SEND_ATTACHMENT", "", true);
        hidden.offered = false;
        let tools = [hidden];
        let candidate = Candidate {
            connected: true,
            tools: &tools,
        };
        assert!(choose(&[candidate], "send", 32).is_empty());
    }

    #[test]
    fn a_server_without_a_key_says_so_for_what_was_asked_for() {
        let asked = ["kronos".to_owned(), "github".to_owned()];
        let offered = without_key(Some(&asked));
        assert_eq!(offered.missing.len(), 1);
        assert!(offered.missing[0].contains("github"));
        assert_eq!(without_key(None), Offered::default());
    }
}
