//! Finds a sum in a sentence and works it out: `+ - * / %`, brackets, powers.

/// Returns the first expression with an operator and its value.
pub(crate) fn find(text: &str) -> Option<(String, String)> {
    let spelled = text.to_lowercase().replace('×', "*").replace('÷', "/");
    let spelled = spelled
        .replace(" times ", " * ")
        .replace(" plus ", " + ")
        .replace(" minus ", " - ");
    let spelled = spelled.replace(" divided by ", " / ");
    let piece = |c: char| c.is_ascii_digit() || "+-*/%^(). ".contains(c);
    let candidates = spelled
        .split(|c| !piece(c))
        .map(|piece| piece.trim().trim_end_matches(['.', ' ', '-', '(']));
    candidates.into_iter().find_map(|expression| {
        let operators = expression
            .trim_start_matches(['-', '(', ' '])
            .contains(['+', '-', '*', '/', '%', '^']);
        let value = operators.then(|| Parser { rest: expression }.all()).flatten()?;
        Some((expression.to_owned(), format_number(value)))
    })
}

fn format_number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn all(mut self) -> Option<f64> {
        let value = self.sum(0)?;
        (self.rest.trim().is_empty() && value.is_finite()).then_some(value)
    }

    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let trimmed = self.rest.trim_start();
        let first = trimmed.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = &trimmed[first.len_utf8()..];
        Some(first)
    }

    fn sum(&mut self, depth: usize) -> Option<f64> {
        let mut value = self.product(depth)?;
        while let Some(operator) = self.take(&['+', '-']) {
            let right = self.product(depth)?;
            value = if operator == '+' { value + right } else { value - right };
        }
        Some(value)
    }

    fn product(&mut self, depth: usize) -> Option<f64> {
        let mut value = self.power(depth)?;
        while let Some(operator) = self.take(&['*', '/', '%']) {
            let right = self.power(depth)?;
            value = match operator {
                '*' => value * right,
                '/' => value / right,
                _ => value % right,
            };
        }
        Some(value)
    }

    fn power(&mut self, depth: usize) -> Option<f64> {
        let base = self.atom(depth)?;
        if self.take(&['^']).is_some() {
            Some(base.powf(self.atom(depth)?))
        } else {
            Some(base)
        }
    }

    fn atom(&mut self, depth: usize) -> Option<f64> {
        if depth > 32 {
            return None;
        }
        if self.take(&['-']).is_some() {
            return Some(-self.atom(depth + 1)?);
        }
        if self.take(&['(']).is_some() {
            let value = self.sum(depth + 1)?;
            return self.take(&[')']).map(|_| value);
        }
        let trimmed = self.rest.trim_start();
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let value = trimmed[..end].parse().ok()?;
        self.rest = &trimmed[end..];
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn sums_are_found_in_sentences() {
        for (text, value) in [
            ("What is 2+2?", Some("4")),
            ("compute 2 * (3 + 4) - 1.5 please", Some("12.5")),
            ("7 times 6", Some("42")),
            ("2^10", Some("1024")),
            ("1/3", Some("0.333333")),
            ("1/0", None),
            ("I am 42 years old", None),
            ("Tell me - in short - why.", None),
        ] {
            assert_eq!(find(text).map(|(_, value)| value).as_deref(), value, "{text}");
        }
    }
}
