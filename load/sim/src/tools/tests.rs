//! Which functions are called for which words, and with what.

use serde_json::{Value, json};

use super::decide;
use crate::directive::{Directives, in_text, strip};
use crate::request::GenerateRequest;

fn string() -> Value {
    json!({"type": "string"})
}

fn function(name: &str, description: &str, required: &[&str], properties: Value) -> Value {
    json!({"name": name, "description": description,
        "parametersJsonSchema": {"type": "object", "properties": properties, "required": required}})
}

/// What a conversation of Kronos with some toolkits has.
fn functions() -> Vec<Value> {
    [own(), of_toolkits()].concat()
}

fn own() -> Vec<Value> {
    vec![
        function(
            "current_time",
            "The date and time now.",
            &[],
            json!({"timezone": string()}),
        ),
        function(
            "calculate",
            "Works out an expression.",
            &["expression"],
            json!({"expression": string()}),
        ),
        function(
            "remember",
            "Keeps a note on the user.",
            &["text"],
            json!({"text": string()}),
        ),
        function("recall", "Finds notes on the user.", &[], json!({"query": string()})),
        function("forget", "Deletes a note.", &["id"], json!({"id": string()})),
    ]
}

fn of_toolkits() -> Vec<Value> {
    vec![
        function(
            "GITHUB_CREATE_ISSUE",
            "Creates a new issue in a GitHub repository.",
            &["owner", "repo", "title"],
            json!({"owner": string(), "repo": string(), "title": string(), "body": string(),
                "labels": {"type": "array", "items": string()}}),
        ),
        function(
            "GITHUB_CREATE_AN_ISSUE_COMMENT",
            "Creates a comment on an issue.",
            &["owner", "repo", "issue_number", "body"],
            json!({"owner": string(), "repo": string(), "issue_number": {"type": "integer"}, "body": string()}),
        ),
        function(
            "GITHUB_LIST_REPOSITORY_ISSUES",
            "Lists issues in a repository.",
            &["owner", "repo"],
            json!({"owner": string(), "repo": string(), "per_page": {"type": "integer"}}),
        ),
        function(
            "GMAIL_SEND_EMAIL",
            "Sends an email via Gmail.",
            &["recipient_email", "body"],
            json!({"recipient_email": string(), "subject": string(), "body": string(), "is_html": {"type": "boolean"}}),
        ),
        function(
            "GMAIL_FETCH_EMAILS",
            "Fetches emails.",
            &[],
            json!({"query": string(), "max_results": {"type": "integer"}}),
        ),
        function(
            "SLACK_SEND_MESSAGE",
            "Posts a message to a Slack channel.",
            &["channel", "text"],
            json!({"channel": string(), "text": string()}),
        ),
        function(
            "GOOGLECALENDAR_CREATE_EVENT",
            "Creates an event in a calendar.",
            &["start_datetime"],
            json!({"start_datetime": string(), "summary": string()}),
        ),
        function(
            "get_weather",
            "Weather for a city.",
            &["city"],
            json!({"city": string()}),
        ),
    ]
}

fn decided(mode: &str, contents: &Value) -> Vec<(String, Value)> {
    let request = GenerateRequest {
        model: "gemini-3.8-flash".to_owned(),
        body: json!({"contents": contents, "tools": [{"functionDeclarations": functions()}],
            "toolConfig": {"functionCallingConfig": {"mode": mode}}}),
    };
    let mut directives = Directives {
        inherited: request.step() > 1,
        ..Directives::default()
    };
    in_text(request.turn_said())
        .iter()
        .for_each(|word| directives.apply(word));
    let prompt = strip(&request.last_text());
    let calls = decide(&request, &directives, &prompt, 7).into_iter();
    calls
        .map(|call| (call["name"].as_str().unwrap().to_owned(), call["args"].clone()))
        .collect()
}

fn asked(prompt: &str) -> Vec<(String, Value)> {
    decided("AUTO", &json!([{"role": "user", "parts": [{"text": prompt}]}]))
}

/// Asks with answers to the steps before.
fn followed(prompt: &str, steps: &[Value]) -> Vec<(String, Value)> {
    let mut contents = vec![json!({"role": "user", "parts": [{"text": prompt}]})];
    for response in steps {
        contents.push(json!({"role": "model", "parts": [{"functionCall": {"name": "current_time"}}]}));
        let response = json!({"name": "current_time", "response": response});
        contents.push(json!({"role": "user", "parts": [{"functionResponse": response}]}));
    }
    decided("AUTO", &json!(contents))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests_call_the_function_they_mean() {
    for (prompt, name, args) in [
        ("what time is it?", "current_time", json!({})),
        (
            "What is the current time in Europe/Bern?",
            "current_time",
            json!({"timezone": "Europe/Bern"}),
        ),
        ("what is 12*34", "calculate", json!({"expression": "12*34"})),
        (
            "calculate 2 * (3 + 4)",
            "calculate",
            json!({"expression": "2 * (3 + 4)"}),
        ),
        ("What is 2+2?", "calculate", json!({"expression": "2+2"})),
        (
            "Remember that my cat is Tom.",
            "remember",
            json!({"text": "my cat is Tom"}),
        ),
        ("what do you remember about my cat?", "recall", json!({"query": "cat"})),
        ("please forget my cat", "recall", json!({"query": "cat"})),
        (
            "create an issue titled Broken login in repo acme/site",
            "GITHUB_CREATE_ISSUE",
            json!({"owner": "acme", "repo": "site", "title": "Broken login"}),
        ),
        (
            "Create an issue titled X in repo Y",
            "GITHUB_CREATE_ISSUE",
            json!({"owner": "octocat", "repo": "Y", "title": "X"}),
        ),
        (
            "Please list the issues of the repo acme/site",
            "GITHUB_LIST_REPOSITORY_ISSUES",
            json!({"owner": "acme", "repo": "site"}),
        ),
        (
            "send an email to a@b.ch saying hi",
            "GMAIL_SEND_EMAIL",
            json!({"recipient_email": "a@b.ch", "body": "hi"}),
        ),
        (
            "Send an email to a@b.ch with subject: Lunch, body: See you at noon",
            "GMAIL_SEND_EMAIL",
            json!({"recipient_email": "a@b.ch", "subject": "Lunch", "body": "See you at noon"}),
        ),
        (
            "list the issues of acme/site",
            "GITHUB_LIST_REPOSITORY_ISSUES",
            json!({"owner": "acme", "repo": "site"}),
        ),
        (
            "comment on issue #12 in acme/site saying \"me too\"",
            "GITHUB_CREATE_AN_ISSUE_COMMENT",
            json!({"owner": "acme", "repo": "site", "issue_number": 12, "body": "me too"}),
        ),
        ("show my last 5 emails", "GMAIL_FETCH_EMAILS", json!({"max_results": 5})),
        (
            "send a message to #general saying \"we ship\"",
            "SLACK_SEND_MESSAGE",
            json!({"channel": "general", "text": "we ship"}),
        ),
        (
            "schedule a meeting on 2026-12-01T10:00:00 titled Planning",
            "GOOGLECALENDAR_CREATE_EVENT",
            json!({"start_datetime": "2026-12-01T10:00:00", "summary": "Planning"}),
        ),
        (
            "What is the weather in New York?",
            "get_weather",
            json!({"city": "New York"}),
        ),
    ] {
        assert_eq!(asked(prompt), [(name.to_owned(), args)], "{prompt}");
    }
}

#[test]
fn talk_calls_nothing() {
    for prompt in [
        "",
        "hi",
        "Write 500 words",
        "Write 500 words about issues of memory",
        "Tell me about Bern",
        "Tell me about email",
        "Do you remember what I said?",
        "What did I say before?",
        "remember me?",
        "What is the capital of France?",
        "My name is Grace.",
        "What is my name?",
        "explain recursion",
        "explain how to calculate a sum",
        "make a table of planets",
        "give me 3 tips for sleeping",
        "write a rust function to reverse a string",
        "A poem about the time",
        "How many times did I ask?",
        "I was born 1990-2000",
        "Tell me a story",
        "and then?",
        "forget it",
        "list five fruits",
        "write a python script that sends email",
        "a",
        "[[tokens 40]] a",
    ] {
        assert_eq!(asked(prompt), [], "{prompt}");
    }
}

#[test]
fn requests_that_are_joined_are_called_in_parallel() {
    let names = |prompt: &str| asked(prompt).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("What time is it and what is 3*4?"), ["current_time", "calculate"]);
    assert_eq!(names("what is 2*3 and 4*5"), ["calculate", "calculate"]);
    let both = asked("Send an email to a@b.ch saying hi and bye, then create an issue titled X in repo acme/site");
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].1["body"], "hi and bye");
    assert_eq!(both[1].1["title"], "X");
    assert_eq!(names("[[parallel]] time and weather"), ["current_time", "get_weather"]);
    assert_eq!(names("[[parallel]] go").len(), 8);
}

#[test]
fn words_in_brackets_name_calls_steps_and_mistakes() {
    let exact =
        r#"[[call calculate {"expression": "1"}]] [[call calculate {"expression": "2"}]] [[call current_time]]"#;
    let calls = asked(exact);
    assert_eq!((calls.len(), &calls[1].1), (3, &json!({"expression": "2"})));
    assert_eq!(asked("[[call nothing_such]] a"), []);

    let ok = json!({"output": "12:00"});
    let error = json!({"error": "rejected"});
    let stepped = "[[steps 3]] what time is it?";
    assert_eq!(followed(stepped, &[ok.clone(), ok.clone()]).len(), 1);
    assert_eq!(followed(stepped, &[ok.clone(), ok.clone(), ok.clone()]), []);
    assert_eq!(
        followed(stepped, std::slice::from_ref(&error)),
        [],
        "a failed call is not repeated"
    );
    assert_eq!(
        followed("what time is it?", std::slice::from_ref(&ok)),
        [],
        "results are used"
    );
    assert_eq!(followed("what time is it?", std::slice::from_ref(&error)), []);

    let bad = "[[badargs]] what is 3*4?";
    assert_eq!(asked(bad)[0].1, json!({"expression": {"wrong": true}}));
    assert_eq!(
        followed(bad, std::slice::from_ref(&error))[0].1,
        json!({"expression": "3*4"})
    );
    assert_eq!(followed(bad, &[error.clone(), ok.clone()]), []);
    let unknown = "[[badname]] what is 3*4?";
    assert_eq!(asked(unknown)[0].0, "no_such_function");
    assert_eq!(followed(unknown, &[error])[0].0, "calculate");
    assert_eq!(followed(unknown, &[ok]), []);
}

#[test]
fn the_mode_is_obeyed() {
    let contents = json!([{"role": "user", "parts": [{"text": "[[call current_time]] hi"}]}]);
    assert_eq!(decided("NONE", &contents), []);
    let plain = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    assert_eq!(decided("ANY", &plain).len(), 1);
    assert_eq!(decided("VALIDATED", &plain), []);
}

#[test]
fn a_message_among_the_results_is_heard() {
    let contents = |text: &str| {
        json!([
            {"role": "user", "parts": [{"text": "what time is it?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "current_time"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "current_time", "response": {}}}, {"text": text}]},
        ])
    };
    assert_eq!(decided("AUTO", &contents("Be brief.")), []);
    assert_eq!(decided("AUTO", &contents("What is 2*3?"))[0].0, "calculate");
}

#[test]
fn what_is_to_be_forgotten_is_found_first() {
    let contents = |found: Value| {
        let response = json!({"name": "recall", "response": found});
        json!([
            {"role": "user", "parts": [{"text": "forget my cat"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "recall"}}]},
            {"role": "user", "parts": [{"functionResponse": response}]},
        ])
    };
    let found = json!({"memories": [{"id": "m_1", "text": "my cat is Tom"}]});
    assert_eq!(
        decided("AUTO", &contents(found)),
        [("forget".to_owned(), json!({"id": "m_1"}))]
    );
    assert_eq!(decided("AUTO", &contents(json!({"memories": []}))), []);
}
