//! Scales of charts: where values lie, and which are written beside the axis.

/// A scale from values to lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    is_log: bool,
    start: f64,
    end: f64,
}

impl Scale {
    /// Maps `from` to `start` and `to` to `end`, evenly.
    pub(super) fn linear((from, to): (f64, f64), (start, end): (f64, f64)) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self {
            from,
            to,
            is_log: false,
            start,
            end,
        }
    }

    /// Maps them so that each factor of ten has the same length; both are positive.
    pub(super) fn log((from, to): (f64, f64), range: (f64, f64)) -> Self {
        let from = from.max(f64::MIN_POSITIVE);
        Self {
            is_log: true,
            ..Self::linear((from, to.max(from * 10.0)), range)
        }
    }

    /// Returns where a value lies; what is outside lies at the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = if self.is_log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Returns the values that are written beside it.
    pub(super) fn ticks(&self, base: f64) -> Vec<f64> {
        if self.is_log {
            decades(self.from, self.to)
        } else {
            even(self.from, self.to, base)
        }
    }
}

/// Round numbers from `from` to `to`, about four; in units of `base` (1024 for bytes, else 10).
fn even(from: f64, to: f64, base: f64) -> Vec<f64> {
    // Bytes are round in KiB or MiB, not in thousands.
    let unit = if base > 10.0 {
        base.powf(((to - from).max(1.0).ln() / base.ln()).floor())
    } else {
        1.0
    };
    let step = nice((to - from) / 4.0 / unit) * unit;
    let first = (from / step).ceil();
    (0..12)
        .map(|index| (first + f64::from(index)) * step)
        .take_while(|tick| *tick <= to * 1.000_001)
        .collect()
}

/// The next of 1, 2, 5, 10, … that is not smaller.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let digit = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|digit| digit * power >= step * 0.999_999);
    digit.unwrap_or(10.0) * power
}

/// Powers of ten; with 2 and 5 between them when there are few.
fn decades(from: f64, to: f64) -> Vec<f64> {
    let digits: &[f64] = if to / from < 300.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut power = 10_f64.powf(from.log10().floor());
    let mut ticks = Vec::new();
    while power <= to && ticks.len() < 40 {
        ticks.extend(
            digits
                .iter()
                .map(|digit| digit * power)
                .filter(|tick| (from..=to).contains(tick)),
        );
        power *= 10.0;
    }
    ticks
}

/// The top of an axis: a little above the largest value, at a round number.
pub(super) fn top(largest: f64, base: f64) -> f64 {
    if largest <= 0.0 {
        return 1.0;
    }
    let step = even(0.0, largest, base).get(1).copied().unwrap_or(largest);
    (largest / step * 1.02).ceil() * step
}

/// Ticks of an axis of seconds, at most about seven, and how they are written.
pub(super) fn times(end: f64) -> Vec<(f64, String)> {
    const STEPS: [f64; 16] = [
        0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0,
    ];
    let step = STEPS
        .into_iter()
        .find(|step| end / step <= 7.0)
        .unwrap_or((end / 7.0 / 3600.0).ceil() * 3600.0);
    let label = |at: f64| match at {
        at if end < 120.0 => format!("{} s", super::number(at)),
        at if end < 7200.0 => format!("{:.0}:{:02.0}", (at / 60.0).floor(), at % 60.0),
        at => format!("{:.0}:{:02.0} h", (at / 3600.0).floor(), (at % 3600.0 / 60.0).floor()),
    };
    let ticks = (0..12).map(|index| f64::from(index) * step).take_while(|at| *at <= end);
    ticks.map(|at| (at, label(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_they_should() {
        let scale = Scale::linear((0.0, 10.0), (100.0, 0.0));
        assert_eq!((scale.at(0.0), scale.at(5.0), scale.at(20.0)), (100.0, 50.0, 0.0));
        let scale = Scale::log((1.0, 100.0), (0.0, 100.0));
        assert!((scale.at(10.0) - 50.0).abs() < 1e-9);
        assert_eq!(scale.at(0.0), 0.0);
        let flat = Scale::linear((0.0, 0.0), (0.0, 1.0));
        assert_eq!(flat.at(0.0), 0.0);
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(even(0.0, 100.0, 10.0), [0.0, 50.0, 100.0]);
        assert_eq!(even(0.0, 17.0, 10.0), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(
            even(0.0, 400.0 * 1_048_576.0, 1024.0),
            [0.0, 1e2, 2e2, 3e2, 4e2].map(|mib| mib * 1_048_576.0)
        );
        assert_eq!(decades(1e3, 1e5), [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]);
        assert_eq!(decades(1.0, 1e4), [1.0, 10.0, 100.0, 1e3, 1e4]);
        assert_eq!(top(0.0, 10.0), 1.0);
        assert!(top(99.0, 10.0) >= 100.0);
        let labels: Vec<_> = times(300.0).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00"]);
        assert_eq!(times(10.0)[1].1, "2 s");
    }
}
