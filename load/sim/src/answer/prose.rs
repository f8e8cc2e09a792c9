//! Longer forms: explanations, lists, tables, poems, stories and texts of an exact length.

use super::{Talk, topic};
use crate::random;

/// Sentences about anything; `{}` is the topic.
const SENTENCES: &[&str] = &[
    "The first thing to notice about {} is how much depends on small details.",
    "People who work with {} every day describe it as a craft more than a science.",
    "A good way to begin is to look at one concrete case and to ask what would break it.",
    "Seen from a distance, {} looks simple; close up, every part has a reason to be there.",
    "Historically it grew out of practice, and the theory followed later.",
    "There is a naïve view of the matter, and it is right more often than one would expect.",
    "What makes {} interesting is the tension between speed and care.",
    "Two questions help: what must never happen, and what may happen late?",
    "An example from daily life is a café at noon: orders arrive, wait, and leave in another order.",
    "Mistakes are common here, and most of them are mistakes of scale.",
    "Once the basics are clear, the rest of {} follows almost by itself.",
    "It pays to measure before changing anything, because intuition is a poor guide.",
    "Experts disagree about the details, but they agree on the direction.",
    "In the end {} is about people: somebody asks, and somebody has to answer.",
];

const LINES: &[&str] = &[
    "Over {} the evening light lies low,",
    "A quiet thought of {} begins to grow,",
    "The wind forgets the words it used to know,",
    "And slowly, slowly, silver rivers flow.",
    "We counted every hour, every star,",
    "And wondered how the small things travel far;",
    "But {} was never far from where we are,",
    "A door that someone kindly left ajar.",
];

const POINTS: &[(&str, &str)] = &[
    ("Start small", "one clear goal is worth more than five vague ones"),
    ("Keep a rhythm", "the same time every day makes it a habit"),
    ("Write it down", "what is on paper does not need to be remembered"),
    ("Ask someone", "a second view finds what you overlook"),
    ("Measure", "a number before and a number after, nothing more"),
    ("Rest", "progress happens in the pauses, too"),
    ("Remove something", "the easiest improvement is often one thing less"),
    ("Finish", "done and imperfect beats perfect and open"),
    ("Look back", "once a week, with a cup of *thé à la menthe*"),
    ("Share it", "explaining is the best test of understanding"),
];

const PLANETS: &str = "| Planet | Diameter (km) | Moons | Day |\n|---|---:|---:|---|\n| Mercury ☿ | 4,879 | 0 | 176 d |\n\
    | Venus ♀ | 12,104 | 0 | 117 d |\n| Earth ♁ | 12,756 | 1 | 24 h |\n| Mars ♂ | 6,792 | 2 | 24.7 h |\n\
    | Jupiter ♃ | 142,984 | 95 | 9.9 h |\n| Saturn ♄ | 120,536 | 146 | 10.7 h |\n| Uranus ⛢ | 51,118 | 28 | 17.2 h |\n\
    | Neptune ♆ | 49,528 | 16 | 16.1 h |\n";

/// Returns exactly `count` words of connected text.
pub(crate) fn words(count: usize, seed: u64) -> String {
    essay(count, "the matter", seed)
}

/// Returns exactly `count` words about `topic`, in paragraphs.
pub(super) fn essay(count: usize, topic: &str, seed: u64) -> String {
    let mut text = String::new();
    let (mut left, mut at) = (count, 0_u64);
    while left > 0 {
        let sentence = random::pick(SENTENCES, seed.wrapping_add(at))
            .copied()
            .unwrap_or("word");
        let sentence = sentence.replace("{}", topic);
        let words: Vec<&str> = sentence.split_whitespace().take(left).collect();
        left -= words.len();
        text.push_str(&words.join(" "));
        at += 1;
        if left > 0 {
            text.push_str(if at.is_multiple_of(5) { "\n\n" } else { " " });
        }
    }
    text
}

pub(super) fn explain(talk: &Talk<'_>) -> Option<String> {
    if !talk.says(&[
        "explain", "what", "what's", "why", "how", "describe", "who", "when", "where",
    ]) && !talk.has(&["tell me about", "tell me of"])
    {
        return None;
    }
    let topic = talk.topic();
    let sentence = |at| {
        random::pick(SENTENCES, talk.seed ^ random::mix(at))
            .copied()
            .unwrap_or_default()
            .replace("{}", &topic)
    };
    let opening = talk.pick(&["In short", "Good question", "Let us take it step by step"], 20);
    let mut text = format!("{opening}: **{topic}** has three sides.\n\n");
    for (at, side) in ["What it is", "How it works", "Why it matters"].iter().enumerate() {
        text.push_str(&format!("{}. **{side}.** {}\n", at + 1, sentence(at as u64)));
    }
    text.push_str(&format!("\n{}", sentence(9)));
    if let Some(before) = talk.earlier.last() {
        text.push_str(&format!(
            "\n\nIt also connects to what you asked before, *{}*.",
            super::topic(before)
        ));
    }
    Some(text)
}

pub(super) fn list(talk: &Talk<'_>) -> Option<String> {
    if !talk.says(&[
        "list", "tips", "ideas", "steps", "things", "reasons", "bullet", "points", "names",
    ]) {
        return None;
    }
    let wanted = talk.number().unwrap_or(5).clamp(1, 50);
    let start = usize::try_from(talk.seed % 10).unwrap_or(0);
    let points = POINTS.iter().cycle().skip(start).take(wanted).enumerate();
    let lines = points.map(|(at, (head, tail))| format!("{}. **{head}**: {tail}\n", at + 1));
    Some(format!(
        "Here are {wanted} for *{}*:\n\n{}",
        talk.topic(),
        lines.collect::<String>()
    ))
}

pub(super) fn table(talk: &Talk<'_>) -> Option<String> {
    if !talk.says(&["table", "compare", "comparison"]) {
        return None;
    }
    if talk.has(&["planet"]) {
        return Some(format!("The planets of the solar system:\n\n{PLANETS}"));
    }
    let (left, right) = split_pair(talk.prompt).unwrap_or_else(|| (talk.topic(), "the usual way".to_owned()));
    Some(format!(
        "| | {left} | {right} |\n|---|---|---|\n| Effort | low | medium |\n| Speed | ★★★ | ★★ |\n| Cost | 3 € | 5 € |\n\
         | Best for | first steps | large cases |\n\nIn short: begin with **{left}**, move to **{right}** when it gets tight."
    ))
}

/// Returns the two things around "and", "with", "vs".
fn split_pair(text: &str) -> Option<(String, String)> {
    let (left, right) = [" and ", " vs ", " vs. ", " with "]
        .iter()
        .find_map(|word| text.split_once(word))?;
    let (left, right) = (topic(left), topic(right));
    (left != "that" && right != "that").then_some((left, right))
}

pub(super) fn poem(talk: &Talk<'_>) -> Option<String> {
    let topic = talk.topic();
    if talk.says(&["haiku"]) {
        return Some(format!(
            "*{topic}* —\na pond, a frog, the sound of\nwater. Then nothing.\n\n(古池や 蛙飛びこむ 水の音)"
        ));
    }
    let lines = LINES.iter().map(|line| format!("{}  \n", line.replace("{}", &topic)));
    talk.says(&["poem", "verse", "rhyme", "sonnet", "song"])
        .then(|| lines.collect())
}

pub(super) fn story(talk: &Talk<'_>) -> Option<String> {
    if !talk.says(&["story", "tale", "joke"]) {
        return None;
    }
    if talk.says(&["joke"]) {
        return Some("There are 10 kinds of people: those who read binary, and those who do not. 🙂".to_owned());
    }
    let hero = talk.pick(&["Zoë", "Matteo", "Ingrid", "小明", "Anouk"], 30);
    Some(format!(
        "Once, in a town by the sea, lived {hero}, who mended clocks. One evening a stranger brought a watch that ran \
         backwards.\n\n“Leave it,” said {hero}, “some things should.” The stranger laughed, paid with a shell, and was never \
         seen again.\n\nBut the shell still ticks."
    ))
}
