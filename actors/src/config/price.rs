//! What models cost.

use std::collections::BTreeMap;

use crate::gemini::Usage;

/// What a model costs, in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Of the prompt.
    pub prompt: f64,
    /// Of what of the prompt was read from the cache; as the rest of it when absent.
    pub cached: Option<f64>,
    /// Of the answer, and of the thoughts before it.
    pub answer: f64,
}

impl ModelPrice {
    /// Google's list prices of November 2026, where they are known. What is introductory then is less until the year's end.
    pub(super) fn listed() -> BTreeMap<String, Self> {
        let price = |model: &str, prompt, cached, answer| {
            let price = Self { prompt, cached, answer };
            (model.to_owned(), price)
        };
        BTreeMap::from([
            price("gemini-3.5-flash-lite", 0.3, None, 2.5),
            price("gemini-3.6-flash", 1.5, None, 7.5),
            price("gemini-3.8-flash", 1.5, None, 7.5),
            price("gemini-4-argon", 4.0, Some(0.2), 20.0),
        ])
    }

    /// Whether it may stand in a configuration.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        const MOST: f64 = 1_000_000.0;
        [Some(self.prompt), self.cached, Some(self.answer)]
            .into_iter()
            .flatten()
            .all(|price| (0.0..=MOST).contains(&price))
    }

    /// Estimates what so many tokens cost, in dollars.
    #[expect(clippy::cast_precision_loss, reason = "an estimate, and no request has 2^52 tokens")]
    #[must_use]
    pub fn of(&self, usage: &Usage) -> f64 {
        let cached = usage.cached.min(usage.prompt);
        let read = (usage.prompt - cached) as f64 * self.prompt + cached as f64 * self.cached.unwrap_or(self.prompt);
        let written = usage.answer.saturating_add(usage.thoughts) as f64 * self.answer;
        (read + written) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cached_costs_less_where_its_price_is_known_and_thoughts_cost_as_the_answer() {
        let usage = Usage {
            prompt: 1_000_000,
            cached: 400_000,
            answer: 100_000,
            thoughts: 100_000,
            total: 1_200_000,
        };
        let mut price = ModelPrice {
            prompt: 1.0,
            cached: Some(0.5),
            answer: 10.0,
        };
        assert!((price.of(&usage) - 2.8).abs() < 1e-9);
        price.cached = None;
        assert!((price.of(&usage) - 3.0).abs() < 1e-9);
        let odd = Usage {
            cached: 7,
            ..Usage::default()
        };
        assert!(price.of(&odd).abs() < 1e-9, "more is cached than there was");
    }
}
