//! Small tables of facts.

use super::Talk;

/// Country, capital, one more sentence.
pub(super) const CAPITALS: &[(&str, &str, &str)] = &[
    ("France", "Paris", "The Seine runs through it."),
    ("Germany", "Berlin", "It has more bridges than Venice."),
    ("Italy", "Rome", "People call it *la città eterna*."),
    (
        "Spain",
        "Madrid",
        "At 650 m it is one of the highest capitals of Europe.",
    ),
    ("Portugal", "Lisbon", "Locals say *Lisboa*."),
    (
        "Switzerland",
        "Bern",
        "Strictly speaking it is the federal city (*Bundesstadt*).",
    ),
    ("Austria", "Vienna", "Locals say *Wien*."),
    ("Poland", "Warsaw", "Locals say *Warszawa*."),
    ("Greece", "Athens", "In Greek: Αθήνα."),
    ("Sweden", "Stockholm", "It lies on fourteen islands."),
    ("Norway", "Oslo", "It was called Christiania before 1925."),
    ("Denmark", "Copenhagen", "Locals say *København*."),
    ("Finland", "Helsinki", "It was founded in 1550."),
    ("Ireland", "Dublin", "In Irish: *Baile Átha Cliath*."),
    ("United Kingdom", "London", "The Thames runs through it."),
    ("England", "London", "The Thames runs through it."),
    ("Netherlands", "Amsterdam", "The government sits in The Hague, though."),
    ("Belgium", "Brussels", "Many institutions of the EU are there."),
    ("Ukraine", "Kyiv", "In Ukrainian: Київ."),
    ("Turkey", "Ankara", "Not Istanbul!"),
    ("Egypt", "Cairo", "In Arabic: القاهرة."),
    ("Kenya", "Nairobi", "It has a national park within the city."),
    ("Nigeria", "Abuja", "It replaced Lagos in 1991."),
    ("South Africa", "Pretoria", "Cape Town and Bloemfontein share the duty."),
    ("Japan", "Tokyo", "In Japanese: 東京."),
    ("China", "Beijing", "In Chinese: 北京."),
    ("South Korea", "Seoul", "In Korean: 서울."),
    ("India", "New Delhi", "It was inaugurated in 1931."),
    (
        "Thailand",
        "Bangkok",
        "Its full name is one of the longest in the world.",
    ),
    (
        "Australia",
        "Canberra",
        "It was a compromise between Sydney and Melbourne.",
    ),
    ("New Zealand", "Wellington", "It is the windiest capital."),
    ("Canada", "Ottawa", "The Rideau Canal freezes into a skating rink."),
    ("United States", "Washington, D.C.", "It belongs to no state."),
    ("USA", "Washington, D.C.", "It belongs to no state."),
    ("Mexico", "Mexico City", "Locals say *Ciudad de México*."),
    ("Brazil", "Brasília", "It was built in 41 months."),
    ("Argentina", "Buenos Aires", "The name means *fair winds*."),
    ("Chile", "Santiago", "The Andes stand behind it."),
    ("Peru", "Lima", "It was founded in 1535."),
    ("Colombia", "Bogotá", "It lies at 2,640 m."),
];

/// Phrase, then French, German, Spanish, Japanese.
const PHRASES: &[(&str, [&str; 4])] = &[
    (
        "good morning",
        ["Bonjour", "Guten Morgen", "Buenos días", "おはようございます"],
    ),
    (
        "good night",
        ["Bonne nuit", "Gute Nacht", "Buenas noches", "おやすみなさい"],
    ),
    ("thank you", ["Merci", "Danke", "Gracias", "ありがとう"]),
    (
        "how are you",
        [
            "Comment allez-vous ?",
            "Wie geht es Ihnen?",
            "¿Cómo está?",
            "お元気ですか",
        ],
    ),
    ("goodbye", ["Au revoir", "Auf Wiedersehen", "Adiós", "さようなら"]),
    ("hello", ["Bonjour", "Hallo", "Hola", "こんにちは"]),
];

/// Translates a few phrases.
pub(super) fn translate(talk: &Talk<'_>) -> Option<String> {
    if !talk.has(&[
        "translate",
        "how do you say",
        "in french",
        "in german",
        "in spanish",
        "in japanese",
    ]) {
        return None;
    }
    let (phrase, words) = PHRASES.iter().find(|(phrase, _)| talk.lower.contains(phrase))?;
    let languages = ["French", "German", "Spanish", "Japanese"];
    let named = languages
        .iter()
        .position(|language| talk.lower.contains(&language.to_lowercase()));
    Some(match named {
        Some(at) => format!("“{phrase}” in {} is **{}**.", languages[at], words[at]),
        None => {
            let lines = languages
                .iter()
                .zip(words)
                .map(|(language, word)| format!("- {language}: **{word}**\n"));
            format!("“{phrase}” is:\n\n{}", lines.collect::<String>())
        }
    })
}
