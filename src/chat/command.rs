//! What a typed line means. Pure.

use std::collections::BTreeMap;

use kronos_protocol::{SessionSettings, ToolPolicy, ToolRule};

/// One line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Something to say.
    Say(String),
    /// Start a session.
    New { title: Option<String> },
    /// Show the sessions.
    List,
    /// Go to a session: its id, or its number in the last list.
    Open(String),
    /// Show the messages that wait.
    Queue,
    /// Take one of them back.
    Unqueue(usize),
    /// Say something to the run that is active.
    Steer(String),
    /// Say something else in place of the last message.
    Change(String),
    /// Have the last message answered again.
    Again,
    /// Show the branches.
    Branches,
    /// Go to a branch: its id, or its number in the last list.
    Branch(String),
    /// Show the settings.
    Settings,
    /// Change a setting.
    Set(SessionSettings),
    /// Show what is remembered.
    Memories,
    /// Forget one of these.
    Forget(usize),
    /// Connect an account of a toolkit.
    Connect(String),
    /// Show the commands.
    Help,
    /// Leave.
    Quit,
    /// A command that there is not, or that lacks something; with what to say about it.
    Wrong(String),
    /// Nothing.
    Empty,
}

/// The text of `/help`.
pub(super) const HELP: &str = "\
/new [title]           start a new conversation
/list                  list your conversations
/open NUMBER-or-ID     go on with one of them
/queue                 list the messages that wait for their turn
/unqueue NUMBER        take one of them back
/steer TEXT            say something to the answer that is being made
/say TEXT              say something, also in place of an answer to a question
/edit TEXT             say something else in place of your last message
/again                 have your last message answered again
/branches              list the ways this conversation went, as far as they were seen
/branch NUMBER-or-ID   go back to one of them
/settings              show what is set for this conversation
/settings NAME VALUE   set title, model, system_prompt, tool_policy (auto, ask_writes, ask_all),
                       toolkits (slugs with commas, or none) or tool_rules (TOOL=auto,TOOL=ask,TOOL=deny)
/memories              list what is remembered about you
/forget NUMBER         forget one of these
/connect TOOLKIT       connect an account, such as github
/help                  this text
/quit                  leave (also Ctrl-D)
Ctrl-C                 stop the running answer; at an empty prompt: leave
//text                 say a text that begins with a slash";

/// The commands, for completion.
pub(super) const NAMES: [&str; 18] = [
    "/new ",
    "/list",
    "/open ",
    "/queue",
    "/unqueue ",
    "/steer ",
    "/say ",
    "/edit ",
    "/again",
    "/branches",
    "/branch ",
    "/settings",
    "/memories",
    "/forget ",
    "/connect ",
    "/help",
    "/quit",
    "/exit",
];

/// Reads a line.
pub(super) fn read(line: &str) -> Line {
    let line = line.trim();
    if line.is_empty() {
        return Line::Empty;
    }
    if let Some(text) = line.strip_prefix("//") {
        return Line::Say(format!("/{text}"));
    }
    if !line.starts_with('/') {
        return Line::Say(line.to_owned());
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match (name, rest) {
        ("/new", "") => Line::New { title: None },
        ("/new", title) => Line::New {
            title: Some(title.to_owned()),
        },
        ("/list", _) => Line::List,
        ("/open", "") => Line::Wrong("which one? /open NUMBER of /list, or an id".to_owned()),
        ("/open", which) => Line::Open(which.to_owned()),
        ("/queue", _) => Line::Queue,
        ("/unqueue", which) => number(which, "/unqueue NUMBER of /queue", Line::Unqueue),
        ("/steer", text) => with(text, "/steer TEXT", Line::Steer),
        ("/say", text) => with(text, "/say TEXT", Line::Say),
        ("/edit", text) => with(text, "/edit TEXT", Line::Change),
        ("/again", _) => Line::Again,
        ("/branches", _) => Line::Branches,
        ("/branch", which) => with(which, "/branch NUMBER of /branches, or an id", Line::Branch),
        ("/settings", "") => Line::Settings,
        ("/settings", change) => {
            let (name, value) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
            setting(name, value.trim()).map_or_else(Line::Wrong, Line::Set)
        }
        ("/memories", _) => Line::Memories,
        ("/forget", which) => number(which, "/forget NUMBER of /memories", Line::Forget),
        ("/connect", toolkit) => with(toolkit, "/connect TOOLKIT, such as github", Line::Connect),
        ("/help" | "/?", _) => Line::Help,
        ("/quit" | "/exit" | "/q", _) => Line::Quit,
        (name, _) => Line::Wrong(format!("there is no {name}; /help lists what there is")),
    }
}

fn with(rest: &str, usage: &str, line: impl FnOnce(String) -> Line) -> Line {
    if rest.is_empty() {
        Line::Wrong(usage.to_owned())
    } else {
        line(rest.to_owned())
    }
}

fn number(rest: &str, usage: &str, line: impl FnOnce(usize) -> Line) -> Line {
    match rest.parse::<usize>() {
        Ok(number @ 1..) => line(number),
        Ok(0) | Err(_) => Line::Wrong(usage.to_owned()),
    }
}

/// Reads a change of one setting, or says why it is none.
fn setting(name: &str, value: &str) -> Result<SessionSettings, String> {
    let mut settings = SessionSettings::default();
    let text = (!value.is_empty()).then(|| value.to_owned());
    match name {
        "title" => settings.title = text,
        "model" => settings.model = text,
        "system_prompt" => settings.system_prompt = text,
        "tool_policy" => {
            let policy = value.parse::<ToolPolicy>().ok();
            settings.tool_policy = Some(policy.ok_or("tool_policy is auto, ask_writes or ask_all")?);
        }
        "toolkits" if value == "none" => settings.toolkits = Some(Vec::new()),
        "toolkits" => settings.toolkits = text.map(|_| words(value).map(str::to_owned).collect()),
        "tool_rules" => {
            let rule = |word: &str| {
                let (tool, rule) = word.split_once('=')?;
                Some((tool.to_owned(), rule.parse::<ToolRule>().ok()?))
            };
            let rules: Option<BTreeMap<_, _>> = words(value).map(rule).collect();
            settings.tool_rules = Some(rules.ok_or("tool_rules are TOOL=auto, TOOL=ask or TOOL=deny")?);
        }
        _ => return Err(format!("there is no setting {name}; /help lists what there is")),
    }
    if settings == SessionSettings::default() {
        return Err(format!("/settings {name} VALUE"));
    }
    Ok(settings)
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    let separate = |c: char| c == ',' || c.is_whitespace();
    list.split(separate).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_unless_they_begin_with_a_slash() {
        assert_eq!(read("  what is 1/2?  "), Line::Say("what is 1/2?".to_owned()));
        assert_eq!(read("//etc/hosts"), Line::Say("/etc/hosts".to_owned()));
        assert_eq!(read("   "), Line::Empty);
    }

    #[test]
    fn commands_take_what_follows() {
        assert_eq!(read("/new"), Line::New { title: None });
        assert_eq!(
            read("/new My trip "),
            Line::New {
                title: Some("My trip".to_owned())
            }
        );
        assert_eq!(read("/open 3"), Line::Open("3".to_owned()));
        assert_eq!(read("/list"), Line::List);
        assert_eq!(read("/q"), Line::Quit);
        assert!(matches!(read("/open"), Line::Wrong(_)));
        assert!(matches!(read("/nwe x"), Line::Wrong(text) if text.contains("/nwe")));
    }

    #[test]
    fn numbers_and_texts_are_asked_for() {
        assert_eq!(read("/unqueue 2"), Line::Unqueue(2));
        assert_eq!(read("/forget 1"), Line::Forget(1));
        for line in [
            "/unqueue",
            "/unqueue 0",
            "/forget x",
            "/steer",
            "/edit  ",
            "/say",
            "/connect",
            "/branch",
        ] {
            assert!(matches!(read(line), Line::Wrong(_)), "{line}");
        }
        assert_eq!(read("/say  yes"), Line::Say("yes".to_owned()));
        assert_eq!(read("/edit and now?"), Line::Change("and now?".to_owned()));
        assert_eq!(read("/branch b_1"), Line::Branch("b_1".to_owned()));
    }

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        let set = |line: &str| match read(line) {
            Line::Set(settings) => serde_json::to_value(settings).unwrap(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            set("/settings model gemini-x"),
            serde_json::json!({"model": "gemini-x"})
        );
        assert_eq!(
            set("/settings tool_policy auto"),
            serde_json::json!({"tool_policy": "auto"})
        );
        assert_eq!(
            set("/settings toolkits github, slack"),
            serde_json::json!({"toolkits": ["github", "slack"]})
        );
        assert_eq!(set("/settings toolkits none"), serde_json::json!({"toolkits": []}));
        assert_eq!(
            set("/settings tool_rules A=deny B=ask"),
            serde_json::json!({"tool_rules": {"A": "deny", "B": "ask"}})
        );
        assert_eq!(read("/settings"), Line::Settings);
        for line in [
            "/settings model",
            "/settings tool_policy x",
            "/settings tool_rules A",
            "/settings colour red",
        ] {
            assert!(matches!(read(line), Line::Wrong(_)), "{line}");
        }
    }

    #[test]
    fn help_lists_every_command() {
        for name in NAMES.iter().filter(|name| **name != "/exit") {
            assert!(HELP.contains(name.trim()), "{name}");
        }
    }
}
