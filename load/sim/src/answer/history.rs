//! Answers from the conversation itself: what was said, summed up, or returned by functions.

use serde_json::Value;

use super::{Talk, topic};

/// Answers questions about the conversation itself.
pub(super) fn recall(talk: &Talk<'_>) -> Option<String> {
    let asked = talk.has(&[
        "i say before",
        "i said before",
        "i just say",
        "i say first",
        "i say earlier",
        "i ask before",
        "i ask first",
        "i ask you",
        "i said",
        "did i say",
        "did i ask",
        "we talk about",
        "we discuss",
        "my last message",
        "my first message",
        "my previous",
        "what was my",
        "remember what",
        "do you remember",
    ]);
    if talk.has(&["my name"]) && !talk.has(&["my name is"]) {
        let name = talk.earlier.iter().rev().find_map(|text| told_name(text));
        return Some(name.map_or_else(
            || "You have not told me your name yet.".to_owned(),
            |name| format!("Your name is **{name}**: you told me so earlier."),
        ));
    }
    if talk.has(&["how many turns", "how many messages", "which turn"]) {
        return Some(format!("This is turn **{}** of our conversation.", talk.turn()));
    }
    if !asked {
        return told_name(talk.prompt)
            .map(|name| format!("Nice to meet you, **{name}**! I will remember your name. 👋"));
    }
    let first = talk.has(&["first"]);
    let said = if first {
        talk.earlier.first()
    } else {
        talk.earlier.last()
    };
    let Some(said) = said else {
        return Some("Nothing yet: this is your first message.".to_owned());
    };
    let mut text = format!("{} you said: “{said}”.", if first { "At first" } else { "Before this" });
    if talk.earlier.len() > 1 {
        text.push_str("\n\nSo far you wrote:\n\n");
        text.extend(
            talk.earlier
                .iter()
                .enumerate()
                .map(|(at, said)| format!("{}. {said}\n", at + 1)),
        );
    }
    Some(text)
}

fn told_name(text: &str) -> Option<String> {
    let (_, rest) = text
        .split_once("my name is ")
        .or_else(|| text.split_once("My name is "))?;
    rest.split_whitespace()
        .next()
        .map(|name| name.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
}

pub(super) fn summary(talk: &Talk<'_>) -> Option<String> {
    if !talk.has(&["summar", "recap", "tl;dr"]) {
        return None;
    }
    if let Some((_, given)) = talk
        .prompt
        .split_once(':')
        .filter(|(_, given)| given.split_whitespace().count() > 3)
    {
        return Some(format!("**In short:** it is about {}.", topic(given)));
    }
    if talk.earlier.is_empty() {
        return Some("There is nothing to sum up yet: this is our first turn.".to_owned());
    }
    let points = talk
        .earlier
        .iter()
        .map(|said| format!("- you brought up *{}*\n", topic(said)));
    Some(format!(
        "**So far, in {} turns:**\n\n{}",
        talk.earlier.len(),
        points.collect::<String>()
    ))
}

/// Tells what the functions returned.
pub(super) fn after_tools(responses: &[(&str, &Value)]) -> String {
    let told = responses.iter().map(|(name, response)| {
        if crate::tools::failed(response) {
            let why = &response["error"];
            let why = if why["message"].is_string() {
                &why["message"]
            } else {
                why
            };
            return format!("I could not do it: `{name}` failed: {}", plain(why));
        }
        let keys = ["output", "result", "data"]
            .into_iter()
            .find(|key| !response[*key].is_null());
        let value = keys.map_or(*response, |key| &response[key]);
        match value.as_object() {
            Some(fields) => {
                let lines = fields
                    .iter()
                    .map(|(key, value)| format!("\n- **{key}**: {}", plain(value)));
                format!("`{name}` returned:\n{}", lines.collect::<String>())
            }
            None => format!("`{name}` returned: {}", plain(value)),
        }
    });
    format!("The tools answered. {}", told.collect::<Vec<_>>().join("\n\n"))
}

/// Shows a value as a reader expects it; long ones are cut.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() > 400 {
        text.chars().take(400).chain(['…']).collect()
    } else {
        text
    }
}
