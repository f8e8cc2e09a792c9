//! As much of PromQL as is needed to say which series an expression asks for. What is right PromQL, Prometheus decides.

/// A piece of an expression and where it begins.
#[derive(Debug, Clone, PartialEq)]
struct Token {
    kind: Kind,
    text: String,
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Number,
    Text,
    Sign,
}

/// A matcher of a label: name, `=`, `!=`, `=~` or `!~`, and what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matcher {
    pub(super) label: String,
    pub(super) sign: String,
    pub(super) value: String,
}

impl Matcher {
    /// The values that are named; what means any is none.
    pub(super) fn values(&self) -> Vec<&str> {
        if !self.sign.contains('~') {
            return vec![&self.value];
        }
        self.value
            .split('|')
            .filter(|value| !value.contains(['*', '+', '$']))
            .collect()
    }

    /// The beginnings of values that are named with a `.*` behind them.
    pub(super) fn beginnings(&self) -> Vec<&str> {
        self.value
            .split('|')
            .filter_map(|value| value.strip_suffix(".*"))
            .collect()
    }
}

/// Series of one name, as an expression selects them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selector {
    pub(super) name: String,
    pub(super) matchers: Vec<Matcher>,
    /// As it stands in the expression, without a range.
    pub(super) text: String,
    at: usize,
}

/// Labels that an aggregation keeps, and the series below it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grouping {
    pub(super) labels: Vec<String>,
    pub(super) of: Vec<Selector>,
}

/// An expression, taken apart.
#[derive(Debug)]
pub(super) struct Query {
    text: String,
    tokens: Vec<Token>,
}

const WORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">=", "<=", ">", "<"];

impl Query {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            tokens: tokens(text),
        }
    }

    /// Every selector of series in it.
    pub(super) fn selectors(&self) -> Vec<Selector> {
        let (mut found, mut i) = (Vec::new(), 0);
        while i < self.tokens.len() {
            let word = &self.tokens[i];
            if word.kind == Kind::Word && LISTS.contains(&word.text.as_str()) && self.is(i + 1, "(") {
                i = self.closed(i + 1);
            } else if word.kind == Kind::Word
                && !WORDS.contains(&word.text.to_lowercase().as_str())
                && !self.is(i + 1, "(")
                && !LISTS.iter().any(|list| self.is(i + 1, list))
            {
                let selector = self.selector(i);
                i += if selector.matchers.is_empty() && !self.is(i + 1, "{") {
                    0
                } else {
                    self.closed(i + 1) - i
                };
                found.push(selector);
            }
            i += 1;
        }
        found
    }

    /// Every `by (…)` with the series that it groups.
    pub(super) fn groupings(&self) -> Vec<Grouping> {
        let all = self.selectors();
        let lists = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| token.kind == Kind::Word && token.text == "by");
        lists
            .map(|(i, _)| {
                let end = self.closed(i + 1);
                let labels = self.tokens[i + 1..end].iter().filter(|token| token.kind == Kind::Word);
                assert!(
                    self.is(end + 1, "("),
                    "`by` stands before what it groups: {}",
                    self.text
                );
                let body = self.tokens[end + 1].at..self.tokens[self.closed(end + 1)].at;
                Grouping {
                    labels: labels.map(|token| token.text.clone()).collect(),
                    of: all
                        .iter()
                        .filter(|selector| body.contains(&selector.at))
                        .cloned()
                        .collect(),
                }
            })
            .collect()
    }

    /// The same with every comparison made `bool`: it filters nothing, and is empty only when there is nothing to compare.
    pub(super) fn without_filters(&self) -> String {
        let mut text = self.text.clone();
        let mut in_braces = false;
        let mut places = Vec::new();
        for (i, token) in self
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| token.kind == Kind::Sign)
        {
            match token.text.as_str() {
                "{" => in_braces = true,
                "}" => in_braces = false,
                sign if !in_braces && COMPARISONS.contains(&sign) && !self.is(i + 1, "bool") => {
                    places.push(token.at + sign.len());
                }
                _ => {}
            }
        }
        for place in places.into_iter().rev() {
            text.insert_str(place, " bool");
        }
        text
    }

    fn is(&self, i: usize, text: &str) -> bool {
        self.tokens
            .get(i)
            .is_some_and(|token| token.kind != Kind::Text && token.text == text)
    }

    /// Where the bracket closes that opens at `i`.
    fn closed(&self, i: usize) -> usize {
        let mut depth = 0;
        for (n, token) in self
            .tokens
            .iter()
            .enumerate()
            .skip(i)
            .filter(|(_, token)| token.kind == Kind::Sign)
        {
            match token.text.as_str() {
                "(" | "{" | "[" => depth += 1,
                ")" | "}" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return n;
            }
        }
        panic!("a bracket that does not close: {}", self.text)
    }

    fn selector(&self, i: usize) -> Selector {
        let name = &self.tokens[i];
        let (mut matchers, mut end) = (Vec::new(), name.at + name.text.len());
        if self.is(i + 1, "{") {
            let close = self.closed(i + 1);
            end = self.tokens[close].at + 1;
            for three in self.tokens[i + 2..close].split(|token| token.kind == Kind::Sign && token.text == ",") {
                let [label, sign, value] = three else {
                    panic!("not a matcher: {three:?} in {}", self.text)
                };
                let text = |token: &Token| token.text.clone();
                matchers.push(Matcher {
                    label: text(label),
                    sign: text(sign),
                    value: text(value),
                });
            }
        }
        Selector {
            name: name.text.clone(),
            matchers,
            text: self.text[name.at..end].to_owned(),
            at: name.at,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let until = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let (kind, length) = match first {
            ' ' | '\n' => {
                at += 1;
                continue;
            }
            'a'..='z' | 'A'..='Z' | '_' | ':' => (Kind::Word, until(|c| c.is_ascii_alphanumeric() || "_:".contains(c))),
            // A variable of Grafana stands for a duration.
            '0'..='9' | '$' => (Kind::Number, until(|c| c.is_ascii_alphanumeric() || "._$".contains(c))),
            '"' => (
                Kind::Text,
                rest[1..]
                    .find('"')
                    .unwrap_or_else(|| panic!("a text without an end: {text}"))
                    + 2,
            ),
            _ => {
                let two = ["=~", "!~", "==", "!=", ">=", "<="]
                    .iter()
                    .any(|sign| rest.starts_with(sign));
                (Kind::Sign, if two { 2 } else { first.len_utf8() })
            }
        };
        let word = if kind == Kind::Text {
            &rest[1..length - 1]
        } else {
            &rest[..length]
        };
        found.push(Token {
            kind,
            text: word.to_owned(),
            at,
        });
        at += length;
    }
    found
}

#[test]
fn an_expression_is_taken_apart() {
    let query = Query::new(
        r#"histogram_quantile(0.9, sum by (le, actor) (rate(a_bucket{job=~"$job", le!="1"}[5m]))) > 2 and on (job) b == 0 or absent(c)"#,
    );
    let selectors = query.selectors();
    let texts: Vec<&str> = selectors.iter().map(|selector| selector.text.as_str()).collect();
    assert_eq!(texts, [r#"a_bucket{job=~"$job", le!="1"}"#, "b", "c"]);
    assert_eq!(
        selectors[0].matchers[1],
        Matcher {
            label: "le".into(),
            sign: "!=".into(),
            value: "1".into()
        }
    );
    let groupings = query.groupings();
    assert_eq!(
        (groupings.len(), groupings[0].labels.as_slice()),
        (1, ["le".to_owned(), "actor".to_owned()].as_slice())
    );
    assert_eq!(groupings[0].of, selectors[..1]);
    let plain = query.without_filters();
    assert!(
        plain.contains("[5m]))) > bool 2 and on (job) b == bool 0 or") && plain.contains(r#"le!="1""#),
        "{plain}"
    );
}
