//! A generate request after validation, with what the rest of the simulator asks of it.

use serde_json::Value;

use crate::directive;
use crate::tokens;

/// A validated, normalised GenerateContentRequest.
#[derive(Debug)]
pub(crate) struct GenerateRequest {
    pub(crate) model: String,
    pub(crate) body: Value,
}

/// One declared function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declaration<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) schema: &'a Value,
}

impl GenerateRequest {
    pub(crate) fn contents(&self) -> &[Value] {
        array(&self.body["contents"])
    }

    pub(crate) fn config(&self) -> &Value {
        &self.body["generationConfig"]
    }

    /// Returns the text of the last content when that is a user's, else an empty text.
    pub(crate) fn last_text(&self) -> String {
        self.contents()
            .last()
            .filter(|content| role(content) == "user")
            .map(text)
            .unwrap_or_default()
    }

    /// Returns the last text of the last content when that is a user's: what was said last, also when the content holds
    /// earlier messages that were never answered.
    pub(crate) fn last_said(&self) -> &str {
        let last = self.contents().last().filter(|content| role(content) == "user");
        last.and_then(|content| texts(content).last()).unwrap_or_default()
    }

    /// Returns the turns with text as (role, text without magic words).
    pub(crate) fn turns(&self) -> Vec<(&str, String)> {
        let turns = self
            .contents()
            .iter()
            .map(|content| (role(content), directive::strip(&text(content))));
        turns.filter(|(_, text)| !text.is_empty()).collect()
    }

    pub(crate) fn system(&self) -> String {
        text(&self.body["systemInstruction"])
    }

    pub(crate) fn declarations(&self) -> Vec<Declaration<'_>> {
        let tools = array(&self.body["tools"]).iter();
        tools
            .flat_map(|tool| array(&tool["functionDeclarations"]))
            .map(declaration)
            .collect()
    }

    /// Returns name and response of the function responses in the last content.
    pub(crate) fn function_responses(&self) -> Vec<(&str, &Value)> {
        self.contents()
            .last()
            .map_or_else(Vec::new, |content| responses(content).collect())
    }

    /// Returns those of the whole turn, oldest first.
    pub(crate) fn turn_responses(&self) -> Vec<(&str, &Value)> {
        self.turn().iter().flat_map(responses).collect()
    }

    /// Returns the number of the model's step in its turn, from 1.
    pub(crate) fn step(&self) -> usize {
        let answered = |content: &&Value| responses(content).next().is_some();
        1 + self.turn().iter().filter(answered).count()
    }

    /// Returns the last text of the message that began the turn.
    pub(crate) fn turn_said(&self) -> &str {
        self.turn()
            .first()
            .and_then(|content| texts(content).last())
            .unwrap_or_default()
    }

    /// Returns the contents from the newest message on that is no function response.
    fn turn(&self) -> &[Value] {
        let is_message = |content: &Value| role(content) == "user" && responses(content).next().is_none();
        let begin = self.contents().iter().rposition(is_message).unwrap_or(0);
        self.contents().get(begin..).unwrap_or_default()
    }

    pub(crate) fn prompt_tokens(&self) -> u32 {
        tokens::count_contents(&self.body["contents"]).saturating_add(tokens::count(&self.system()))
    }
}

fn declaration(function: &Value) -> Declaration<'_> {
    let json_schema = &function["parametersJsonSchema"];
    let schema = if json_schema.is_null() {
        &function["parameters"]
    } else {
        json_schema
    };
    Declaration {
        name: function["name"].as_str().unwrap_or_default(),
        description: function["description"].as_str().unwrap_or_default(),
        schema,
    }
}

/// Returns name and response of the function responses of a content.
fn responses(content: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let parts = array(&content["parts"]).iter().map(|part| &part["functionResponse"]);
    let present = parts.filter(|response| response.is_object());
    present.map(|response| (response["name"].as_str().unwrap_or_default(), &response["response"]))
}

/// Returns the role of a content; absent means user.
fn role(content: &Value) -> &str {
    content["role"]
        .as_str()
        .filter(|role| !role.is_empty())
        .unwrap_or("user")
}

/// Returns the text parts of a content, without thoughts.
fn text(content: &Value) -> String {
    texts(content).collect::<Vec<_>>().join(" ")
}

fn texts(content: &Value) -> impl Iterator<Item = &str> {
    let parts = array(&content["parts"]).iter().filter(|part| part["thought"] != true);
    parts.filter_map(|part| part["text"].as_str())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_count_only_in_what_was_said_last() {
        let request = |contents: Value| GenerateRequest {
            model: "m".to_owned(),
            body: json!({ "contents": contents }),
        };
        let joined = request(json!([{"role": "user", "parts": [{"text": "[[503]] a"}, {"text": "b"}]}]));
        assert_eq!(
            (joined.last_said(), joined.last_text()),
            ("b", "[[503]] a b".to_owned())
        );
        let answered = request(json!([{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": []}]));
        assert_eq!(answered.last_said(), "");
    }
}
