//! Pages to open in a browser: only those of the web, and never through a shell.

use std::io;
use std::process::{Command, Stdio};
use std::thread;

use reqwest::Url;

/// The address of a page, as plain ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link(pub(super) String);

/// Reads the address of a page; `None` when it is not of the web.
pub(super) fn read(text: &str) -> Option<Link> {
    let url = Url::parse(text.trim()).ok()?;
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    // A URL that was read has no control characters, and what is not ASCII is escaped.
    (web && url.as_str().chars().all(|c| c.is_ascii_graphic())).then(|| Link(url.into()))
}

/// Opens a page in the user's browser. Returns the program that was started.
///
/// # Errors
/// There is none.
pub(super) fn open(link: &Link) -> io::Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is of the user's desktop, no setting of Kronos"
    )]
    let browser = std::env::var("BROWSER").ok();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (program, arguments) in candidates(browser.as_deref(), link) {
        let mut command = Command::new(&program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                // Somebody has to wait for it, and it may take as long as the browser runs.
                thread::spawn(move || child.wait());
                return Ok(program);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Programs to try, with their arguments. `BROWSER` is a list with colons between; in each `%s` stands for the address.
fn candidates(browser: Option<&str>, link: &Link) -> Vec<(String, Vec<String>)> {
    let of_user = browser.unwrap_or_default().split(':').filter_map(|entry| {
        let mut words = entry.split_whitespace();
        let program = words.next()?.to_owned();
        let mut arguments: Vec<_> = words.map(|word| word.replace("%s", &link.0)).collect();
        if !entry.contains("%s") {
            arguments.push(link.0.clone());
        }
        Some((program, arguments))
    });
    let usual = ["xdg-open", "open"].map(|program| (program.to_owned(), vec![link.0.clone()]));
    of_user.chain(usual).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_web_are_links() {
        assert_eq!(read("https://x.org/a b"), Some(Link("https://x.org/a%20b".to_owned())));
        assert_eq!(read("http://x.org/\u{1b}[2J").unwrap().0, "http://x.org/%1B[2J");
        for text in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "-rf",
            "",
            "https://",
            "ssh://h/",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_users_browser_comes_first_and_the_address_is_one_argument() {
        let link = read("https://x.org/?a=1;rm%20-rf").unwrap();
        let tried = candidates(Some("firefox --new-tab %s:w3m"), &link);
        let one = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(tried[0], ("firefox".to_owned(), one(&["--new-tab", &link.0])));
        assert_eq!(tried[1], ("w3m".to_owned(), one(&[&link.0])));
        assert_eq!(tried[2].0, "xdg-open");
        assert_eq!(candidates(None, &link).len(), 2);
    }
}
