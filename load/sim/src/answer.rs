//! Makes up answers that fit the question and the turns before it. No network, no model: a table of intents.

mod arithmetic;
mod code;
mod facts;
mod history;
mod prose;

use crate::random;
use crate::request::GenerateRequest;

pub(crate) use arithmetic::find as sum;
pub(crate) use prose::words;

/// Longest text that `write N words` makes.
const MAX_WORDS: usize = 20_000;

/// What an answer is made from.
struct Talk<'a> {
    /// The question without magic words.
    prompt: &'a str,
    /// The question in lower case.
    lower: String,
    /// Earlier user messages, oldest first.
    earlier: Vec<String>,
    seed: u64,
}

/// An intent: returns its answer when the question has it.
type Intent = fn(&Talk<'_>) -> Option<String>;

/// Intents in order; the first that answers counts.
const INTENTS: &[Intent] = &[
    history::recall,
    arithmetic,
    length,
    capital,
    code::answer,
    facts::translate,
    prose::table,
    prose::list,
    prose::poem,
    prose::story,
    history::summary,
    greeting,
    thanks,
    prose::explain,
];

/// Returns the answer to a request whose last user text is `prompt`.
pub(crate) fn compose(request: &GenerateRequest, prompt: &str, seed: u64) -> String {
    if !request.function_responses().is_empty() {
        let told = history::after_tools(&request.turn_responses());
        // What was said while the functions ran is heard, too.
        return if prompt.is_empty() {
            told
        } else {
            format!("{told}\n\nYou also said: “{prompt}”.")
        };
    }
    let mut earlier: Vec<String> = request
        .turns()
        .into_iter()
        .filter(|(role, _)| *role == "user")
        .map(|(_, text)| text)
        .collect();
    if !prompt.is_empty() {
        earlier.pop();
    }
    let talk = Talk {
        prompt,
        lower: prompt.to_lowercase(),
        earlier,
        seed,
    };
    let found = INTENTS.iter().find_map(|intent| intent(&talk));
    let text = found.unwrap_or_else(|| fallback(&talk));
    let system = request.system().to_lowercase();
    let brief = ["be brief", "be concise", "short answer", "one sentence"]
        .iter()
        .any(|words| system.contains(words));
    if brief {
        text.split("\n\n").next().unwrap_or_default().to_owned()
    } else {
        text
    }
}

impl Talk<'_> {
    fn has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.lower.contains(word))
    }

    /// Says whether one of `words` occurs as a word of its own.
    fn says(&self, words: &[&str]) -> bool {
        self.lower
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .any(|said| words.contains(&said))
    }

    fn turn(&self) -> usize {
        self.earlier.len() + 1
    }

    /// Returns the first number in the question.
    fn number(&self) -> Option<usize> {
        self.lower
            .split(|c: char| !c.is_ascii_digit())
            .find_map(|word| word.parse().ok())
    }

    /// Returns what the question is about: its words without the phrases of asking.
    fn topic(&self) -> String {
        topic(self.prompt)
    }

    fn pick<'a>(&self, items: &'a [&'a str], salt: u64) -> &'a str {
        random::pick(items, self.seed ^ random::mix(salt))
            .copied()
            .unwrap_or_default()
    }
}

/// Words that ask and say nothing about the topic.
const ASKING: &[&str] = &[
    "a",
    "an",
    "the",
    "please",
    "can",
    "could",
    "would",
    "you",
    "me",
    "i",
    "my",
    "we",
    "us",
    "tell",
    "explain",
    "write",
    "make",
    "give",
    "show",
    "create",
    "describe",
    "what",
    "what's",
    "who",
    "why",
    "how",
    "when",
    "where",
    "is",
    "are",
    "was",
    "do",
    "does",
    "did",
    "about",
    "of",
    "in",
    "on",
    "to",
    "for",
    "with",
    "list",
    "table",
    "poem",
    "haiku",
    "story",
    "summarise",
    "summarize",
    "summary",
    "some",
    "few",
    "words",
    "word",
    "short",
    "long",
    "essay",
    "text",
    "it",
    "and",
    "then",
    "now",
    "things",
    "ideas",
    "tips",
    "at",
    "be",
    "let",
    "let's",
    "talk",
    "want",
    "know",
    "compare",
    "work",
    "works",
    "function",
    "code",
    "program",
    "script",
];

/// Returns the telling words of a text, at most six.
fn topic(text: &str) -> String {
    let words = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let telling = words.filter(|word| {
        !word.is_empty() && !ASKING.contains(&word.to_lowercase().as_str()) && word.parse::<f64>().is_err()
    });
    let topic = telling.take(6).collect::<Vec<_>>().join(" ");
    if topic.is_empty() { "that".to_owned() } else { topic }
}

fn arithmetic(talk: &Talk<'_>) -> Option<String> {
    let (expression, value) = arithmetic::find(talk.prompt)?;
    Some(format!("{expression} = **{value}**"))
}

/// `write 500 words`: exactly that many.
fn length(talk: &Talk<'_>) -> Option<String> {
    let wanted = talk
        .number()
        .filter(|_| talk.has(&["words", "-word"]))?
        .clamp(1, MAX_WORDS);
    Some(prose::essay(wanted, &talk.topic(), talk.seed))
}

fn capital(talk: &Talk<'_>) -> Option<String> {
    if !talk.has(&["capital of", "capital city"]) {
        return None;
    }
    let known = facts::CAPITALS
        .iter()
        .find(|(country, _, _)| talk.lower.contains(&country.to_lowercase()));
    Some(match known {
        Some((country, city, note)) => format!("The capital of {country} is **{city}**. {note}"),
        None => "I do not have that country in my table. Ask me about France, Japan or Brazil!".to_owned(),
    })
}

fn greeting(talk: &Talk<'_>) -> Option<String> {
    let greets = talk.says(&["hi", "hello", "hey", "hallo", "bonjour", "hola", "moin", "greetings"]);
    if !greets || talk.prompt.split_whitespace().count() > 6 {
        return None;
    }
    let opening = talk.pick(
        &[
            "Hello!",
            "Hi there! 👋",
            "Bonjour, and hello!",
            "Grüezi! Nice to see you.",
        ],
        1,
    );
    Some(if talk.earlier.is_empty() {
        format!("{opening} What would you like to talk about? I can explain things, write code, make lists or do sums.")
    } else {
        format!(
            "{opening} We are at turn {} already; shall we go on with {}?",
            talk.turn(),
            topic(&talk.earlier[0])
        )
    })
}

fn thanks(talk: &Talk<'_>) -> Option<String> {
    talk.says(&["thanks", "thank", "merci", "danke"]).then(|| {
        format!(
            "{} Is there anything else?",
            talk.pick(&["You are welcome!", "My pleasure! ✨", "De rien!"], 2)
        )
    })
}

fn fallback(talk: &Talk<'_>) -> String {
    let said = if talk.prompt.is_empty() {
        "I see your attachment".to_owned()
    } else {
        format!("You said: “{}”", talk.prompt)
    };
    let lead = talk.pick(
        &[
            "Let me think about it with you.",
            "Good point.",
            "Understood.",
            "Voilà, noted.",
        ],
        3,
    );
    let mut text = format!("{said}. {lead} ");
    if let Some(before) = talk.earlier.last() {
        text.push_str(&format!(
            "This is turn {}, and earlier we were at *{}*. ",
            talk.turn(),
            topic(before)
        ));
    }
    text.push_str("\n\nI can go deeper, show an example, or turn it into a list: just say so.");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::compose;
    use crate::request::GenerateRequest;

    /// Asks the last of `said` after the ones before it.
    fn ask(said: &[&str]) -> String {
        let contents: Vec<_> = said
            .iter()
            .map(|text| json!({"role": "user", "parts": [{"text": text}]}))
            .collect();
        let request = GenerateRequest {
            model: "gemini-3.8-flash".to_owned(),
            body: json!({"contents": contents}),
        };
        compose(&request, said.last().unwrap(), 7)
    }

    #[test]
    fn questions_get_answers_that_fit() {
        for (question, expected) in [
            ("What is the capital of France?", "Paris"),
            ("what is 12 * (3 + 4)?", "**84**"),
            ("write a rust function to reverse a string", "```rust"),
            ("make a table of planets", "| "),
            ("give me 3 tips for sleeping", "3. "),
            ("hello", "?"),
            ("explain recursion", "recursion"),
            ("A poem about the sea", "sea"),
            ("translate good morning to french", "Bonjour"),
        ] {
            let answer = ask(&[question]);
            assert!(answer.contains(expected), "{question}: {answer}");
        }
    }

    #[test]
    fn earlier_turns_are_remembered() {
        assert!(ask(&["I like otters", "What did I say before?"]).contains("I like otters"));
        assert!(ask(&["My name is Grace.", "What is my name?"]).contains("**Grace**"));
        assert!(ask(&["Tell me of volcanoes", "ok go on"]).contains("volcanoes"));
        assert!(ask(&["a", "b", "how many turns?"]).contains("**3**"));
    }

    #[test]
    fn the_number_of_words_is_exact() {
        for wanted in [1, 2, 50, 500] {
            let text = ask(&[&format!("write {wanted} words about bees")]);
            assert_eq!(text.split_whitespace().count(), wanted, "{text}");
        }
        assert_eq!(super::words(800, 3).split_whitespace().count(), 800);
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        assert_eq!(ask(&["Tell me a story"]), ask(&["Tell me a story"]));
    }
}
