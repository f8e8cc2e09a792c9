//! `calculate`: arithmetic that a language model is bad at.
//!
//! The parser is exmex: no recursion, no variables bound, no state, linear in what it is given. Its reading of signs and chained powers
//! is not the usual one (`-2^2` is 4, `2^3^2` is 64), so that numbers remember how they came to be ([`Number`]).

use std::{
    fmt,
    iter::Peekable,
    str::{Chars, FromStr},
};

use exmex::{BinOp, Express, FlatEx, MakeOperators, MatchLiteral, Operator, literal_matcher_from_pattern};

/// Longest expression, in bytes.
pub(super) const MAX_BYTES: usize = 500;
/// Most parentheses that may be open at once.
const MAX_DEPTH: usize = 32;
/// Significant digits of a result: what 64-bit floating point numbers hold for sure.
const DIGITS: usize = 15;
/// Longest word of an expression that an error repeats, in characters.
const SHOWN: usize = 24;

/// Functions and constants.
const NAMES: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "cbrt",
    "ceil",
    "cos",
    "e",
    "exp",
    "factorial",
    "floor",
    "ln",
    "log10",
    "log2",
    "max",
    "min",
    "pi",
    "round",
    "sin",
    "sqrt",
    "tan",
    "trunc",
];

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DivisionByZero,
    TooLarge,
    NotReal,
    NotWhole,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DivisionByZero => "division by zero",
            Self::TooLarge => "the result, or a step to it, is too large",
            Self::NotReal => "the result, or a step to it, is not a real number",
            Self::NotWhole => "a factorial is of a whole number from 0",
        })
    }
}

/// A number on its way through an expression.
#[derive(Debug, Clone)]
struct Number {
    value: Result<f64, Fault>,
    /// A sign is in front of it: it belongs to the power of which this is the base.
    signed: bool,
    /// It is a power, not in parentheses: base and exponent. One that follows belongs to the exponent.
    power: Option<(f64, Box<Self>)>,
}

impl Number {
    fn checked(value: f64) -> Self {
        Self::from(if value.is_nan() {
            Err(Fault::NotReal)
        } else if value.is_infinite() {
            Err(Fault::TooLarge)
        } else {
            Ok(value)
        })
    }

    fn map(self, apply: fn(f64) -> f64) -> Self {
        match self.value {
            Ok(value) => Self::checked(apply(value)),
            Err(fault) => Self::from(Err(fault)),
        }
    }

    fn with(self, other: Self, apply: fn(f64, f64) -> f64) -> Self {
        match (self.value, other.value) {
            (Ok(left), Ok(right)) => Self::checked(apply(left, right)),
            (Err(fault), _) | (_, Err(fault)) => Self::from(Err(fault)),
        }
    }

    fn divided(self, by: Self, apply: fn(f64, f64) -> f64) -> Self {
        if by.value == Ok(0.0) && self.value.is_ok() {
            return Self::from(Err(Fault::DivisionByZero));
        }
        self.with(by, apply)
    }

    fn negated(self) -> Self {
        Self {
            signed: true,
            ..self.map(|value| -value)
        }
    }

    /// Chains of powers are at most as long as the expression.
    fn raised(self, exponent: Self) -> Self {
        if let Some((base, inner)) = self.power {
            return Self::power_of(base, inner.raised(exponent));
        }
        match self.value {
            Ok(value) if self.signed => Self::power_of(-value, exponent).negated(),
            Ok(value) => Self::power_of(value, exponent),
            Err(fault) => Self::from(Err(fault)),
        }
    }

    fn power_of(base: f64, exponent: Self) -> Self {
        let value = match exponent.value {
            Ok(exponent) if base == 0.0 && exponent < 0.0 => Err(Fault::DivisionByZero),
            Ok(exponent) => Self::checked(base.powf(exponent)).value,
            Err(fault) => Err(fault),
        };
        Self {
            power: Some((base, Box::new(exponent))),
            ..Self::from(value)
        }
    }

    fn factorial(self) -> Self {
        match self.value {
            Ok(value) if value < 0.0 || value.fract() != 0.0 => Self::from(Err(Fault::NotWhole)),
            // The next one is no 64-bit number any more.
            Ok(value) if value > 170.0 => Self::from(Err(Fault::TooLarge)),
            _ => self.map(|value| {
                let mut product = 1.0;
                let mut factor = 2.0;
                while factor <= value {
                    product *= factor;
                    factor += 1.0;
                }
                product
            }),
        }
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::from(Ok(0.0))
    }
}

impl From<Result<f64, Fault>> for Number {
    fn from(value: Result<f64, Fault>) -> Self {
        Self {
            value,
            signed: false,
            power: None,
        }
    }
}

impl FromStr for Number {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::checked)
    }
}

literal_matcher_from_pattern!(Literal, r"^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?");

/// The operators and functions.
#[derive(Debug, Clone)]
struct Operators;

fn binary(prio: i64, apply: fn(Number, Number) -> Number) -> BinOp<Number> {
    BinOp {
        apply,
        prio,
        // Nothing is put together in another order than it was written.
        is_commutative: false,
    }
}

impl MakeOperators<Number> for Operators {
    fn make<'a>() -> Vec<Operator<'a, Number>> {
        let unary = Operator::<'a, Number>::make_unary;
        vec![
            Operator::make_bin("^", binary(4, Number::raised)),
            Operator::make_bin("*", binary(2, |a, b| a.with(b, |a, b| a * b))),
            Operator::make_bin("/", binary(2, |a, b| a.divided(b, |a, b| a / b))),
            // The sign of the divisor, as in mathematics.
            Operator::make_bin("%", binary(2, |a, b| a.divided(b, |a, b| a - b * (a / b).floor()))),
            // As a sign it is what parentheses are.
            Operator::make_bin_unary("+", binary(0, |a, b| a.with(b, |a, b| a + b)), |a| a.map(|a| a)),
            Operator::make_bin_unary("-", binary(0, |a, b| a.with(b, |a, b| a - b)), Number::negated),
            Operator::make_bin("min", binary(0, |a, b| a.with(b, f64::min))),
            Operator::make_bin("max", binary(0, |a, b| a.with(b, f64::max))),
            unary("abs", |a| a.map(f64::abs)),
            unary("acos", |a| a.map(f64::acos)),
            unary("asin", |a| a.map(f64::asin)),
            unary("atan", |a| a.map(f64::atan)),
            unary("cbrt", |a| a.map(f64::cbrt)),
            unary("ceil", |a| a.map(f64::ceil)),
            unary("cos", |a| a.map(f64::cos)),
            unary("exp", |a| a.map(f64::exp)),
            unary("factorial", Number::factorial),
            unary("floor", |a| a.map(f64::floor)),
            unary("ln", |a| a.logarithm(f64::ln)),
            unary("log10", |a| a.logarithm(f64::log10)),
            unary("log2", |a| a.logarithm(f64::log2)),
            unary("round", |a| a.map(f64::round)),
            unary("sin", |a| a.map(f64::sin)),
            unary("sqrt", |a| a.map(f64::sqrt)),
            unary("tan", |a| a.map(f64::tan)),
            unary("trunc", |a| a.map(f64::trunc)),
            Operator::make_constant("e", Number::from(Ok(std::f64::consts::E))),
            Operator::make_constant("pi", Number::from(Ok(std::f64::consts::PI))),
        ]
    }
}

impl Number {
    fn logarithm(self, apply: fn(f64) -> f64) -> Self {
        match self.value {
            Ok(0.0) => Self::from(Err(Fault::NotReal)),
            _ => self.map(apply),
        }
    }
}

/// Evaluates an expression, rounded to [`DIGITS`] significant digits.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn calculate(expression: &str) -> Result<f64, String> {
    let written = prepared(expression)?;
    let unreadable = |_| {
        "the expression cannot be read: numbers, + - * / % ^, parentheses and functions such as sqrt(2) or max(1, 2) \
         are understood"
            .to_owned()
    };
    let parsed = FlatEx::<Number, Operators, Literal>::parse(&written).map_err(unreadable)?;
    // Every name was known: there are no variables to give a value.
    let number = parsed.eval(&[]).map_err(unreadable)?;
    number.value.map(rounded).map_err(|fault| fault.to_string())
}

fn unknown(name: &str) -> String {
    let name: String = name.chars().take(SHOWN).collect();
    format!("there is no {name:?} here; known are {}", NAMES.join(", "))
}

/// Checks the bounds, and writes an expression in the parser's words.
fn prepared(expression: &str) -> Result<String, String> {
    if expression.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
    }
    let mut written = String::with_capacity(expression.len() + 8);
    // The last character that is no space.
    let (mut depth, mut last) = (0_usize, ' ');
    let mut rest = expression.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '(' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} parentheses are open at once"));
                }
                // A sign before what is no function's argument: so numbers know of the parentheses.
                let of_function = last.is_ascii_alphanumeric() || last == ')';
                written.push_str(if of_function { "(" } else { "+(" });
            }
            ')' => {
                depth = depth.saturating_sub(1);
                written.push(')');
            }
            '*' if rest.next_if_eq(&'*').is_some() => written.push('^'),
            '×' | '·' => written.push('*'),
            '÷' => written.push('/'),
            '−' | '–' => written.push('-'),
            'π' => written.push_str("pi"),
            ',' | '+' | '-' | '*' | '/' | '%' | '^' => written.push(character),
            '0'..='9' | '.' => {
                written.push(character);
                number(&mut rest, &mut written);
            }
            'a'..='z' | 'A'..='Z' => name(character, &mut rest, &mut written)?,
            character if character.is_whitespace() => {
                written.push(' ');
                continue;
            }
            character => return Err(format!("{character:?} means nothing here")),
        }
        last = character;
    }
    Ok(written)
}

/// The rest of a number: digits, a point, an exponent.
fn number(rest: &mut Peekable<Chars<'_>>, written: &mut String) {
    while let Some(more) = rest.next_if(|more| more.is_ascii_digit() || *more == '.') {
        written.push(more);
    }
    let mut ahead = rest.clone();
    if ahead.next_if(|more| matches!(more, 'e' | 'E')).is_none() {
        return;
    }
    let sign = ahead.next_if(|more| matches!(more, '+' | '-'));
    if ahead.next_if(char::is_ascii_digit).is_none() {
        return;
    }
    written.push('e');
    written.extend(sign);
    rest.nth(usize::from(sign.is_some()));
    while let Some(more) = rest.next_if(char::is_ascii_digit) {
        written.push(more);
    }
}

/// A name, which must be known.
fn name(first: char, rest: &mut Peekable<Chars<'_>>, written: &mut String) -> Result<(), String> {
    let mut name = String::from(first);
    while let Some(more) = rest.next_if(char::is_ascii_alphanumeric) {
        name.push(more);
    }
    if !NAMES.contains(&name.as_str()) {
        return Err(unknown(&name));
    }
    written.push_str(&name);
    Ok(())
}

/// What is beyond the digits that count is noise: 0.1 + 0.2 is 0.3.
fn rounded(value: f64) -> f64 {
    let rounded = format!("{value:.*e}", DIGITS - 1).parse().unwrap_or(value);
    // No negative zero.
    if rounded == 0.0 { 0.0 } else { rounded }
}
