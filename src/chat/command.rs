//! What a typed line means. Pure.

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
/help                  this text
/quit                  leave (also Ctrl-D)
Ctrl-C                 stop the running answer; at an empty prompt: leave
//text                 say a text that begins with a slash";

/// The commands, for completion.
pub(super) const NAMES: [&str; 5] = ["/new ", "/list", "/open ", "/help", "/quit"];

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
        ("/help" | "/?", _) => Line::Help,
        ("/quit" | "/exit" | "/q", _) => Line::Quit,
        (name, _) => Line::Wrong(format!("there is no {name}; /help lists what there is")),
    }
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
}
