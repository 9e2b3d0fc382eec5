//! One measured figure: its spread, and the target it has.

use serde_json::json;

/// Several measurements of one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`, of which there is at least one; 0 of none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

/// What a figure is meant to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Nothing was promised: the figure is there to read the others by.
    None,
}

impl Target {
    /// Whether `value` meets it; `None` if there is none.
    pub fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(least <= value),
            Self::AtMost(most) => Some(value <= most),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
            Self::None => String::new(),
        }
    }
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How it came out. Targets are judged by the median.
    pub value: Spread,
    /// Unit; `x` for a quotient.
    pub unit: &'static str,
    /// What it is meant to be.
    pub target: Target,
}

impl Figure {
    /// A figure that there is a target for.
    pub fn judged(what: impl Into<String>, value: Spread, unit: &'static str, target: Target) -> Self {
        Self { what: what.into(), value, unit, target }
    }

    /// A figure to read the others by.
    pub fn plain(what: impl Into<String>, value: Spread, unit: &'static str) -> Self {
        Self::judged(what, value, unit, Target::None)
    }

    /// The head of the table that [`row`](Self::row) makes lines of.
    pub const HEAD: &'static str =
        "| bench | figure | median | min .. max | unit | target | met |\n|---|---|---|---|---|---|---|";

    /// A line of a table.
    pub fn row(&self, bench: &str) -> String {
        let Spread { median, min, max } = self.value;
        let met = match self.target.is_met(median) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let (what, unit, target) = (&self.what, self.unit, self.target.text());
        format!(
            "| {bench} | {what} | {} | {} .. {} | {unit} | {target} | {met} |",
            digits(median),
            digits(min),
            digits(max)
        )
    }

    /// The same as JSON.
    pub fn json(&self, bench: &str) -> serde_json::Value {
        let Spread { median, min, max } = self.value;
        let (at_least, at_most) = match self.target {
            Target::AtLeast(least) => (Some(least), None),
            Target::AtMost(most) => (None, Some(most)),
            Target::None => (None, None),
        };
        json!({
            "bench": bench, "figure": self.what, "unit": self.unit,
            "median": median, "min": min, "max": max,
            "at_least": at_least, "at_most": at_most, "met": self.target.is_met(median),
        })
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        size if 100.0 <= size => format!("{value:.0}"),
        size if 10.0 <= size => format!("{value:.1}"),
        size if 1.0 <= size => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Target::AtLeast(2.0).is_met(spread.median), Some(true));
        assert_eq!(Target::AtMost(1.9).is_met(spread.median), Some(false));
        let row = Figure::judged("a", spread, "x", Target::AtMost(1.9)).row("b");
        assert_eq!(row, "| b | a | 2.00 | 1.00 .. 3.00 | x | <= 1.9 | NO |");
    }
}
