//! One measured number with its peer and its goal, as a row of a table and as JSON.

use std::fmt;

use serde::{Serialize, Serializer};

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// What was measured: `decide among 1000, median`.
    pub(crate) figure: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared with, measured in the same run and unit.
    pub(crate) peer: Option<Peer>,
    /// The value by the peer's.
    pub(crate) ratio: Option<f64>,
    /// What is aimed at.
    pub(crate) goal: Option<Goal>,
    /// How many samples it comes from.
    pub(crate) n: usize,
    /// To miss the goal is not a slow result but a wrong one.
    #[serde(skip)]
    pub(crate) is_fault: bool,
}

/// The other side of a ratio.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// The ratio to the peer.
    RatioAtMost(f64),
    /// The ratio to the peer, where more is better.
    RatioAtLeast(f64),
    /// The value, in the unit of the figure.
    ValueAtMost { value: f64, unit: &'static str },
    /// The value, where more is better.
    ValueAtLeast { value: f64, unit: &'static str },
    /// The value, or else the ratio to the peer, where more is better.
    EitherAtLeast { value: f64, unit: &'static str, ratio: f64 },
}

impl Figure {
    /// A figure without peer and goal.
    pub(crate) fn new(figure: String, value: f64, unit: &'static str, n: usize) -> Self {
        Self { figure, value, unit, peer: None, ratio: None, goal: None, n, is_fault: false }
    }

    pub(crate) fn against(self, name: &'static str, value: f64) -> Self {
        // Nothing is so many times nothing.
        let ratio = (value != 0.0).then(|| self.value / value);
        Self { ratio, peer: Some(Peer { name, value }), ..self }
    }

    pub(crate) fn aiming_at(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Aims at none of them; one is a fault, and the benchmark fails.
    pub(crate) fn aiming_at_none(self) -> Self {
        let none = Goal::ValueAtMost { value: 0.0, unit: self.unit };
        Self { is_fault: true, ..self.aiming_at(none) }
    }

    /// Whether the goal is met; `None` without a goal, or where its ratio was not measured.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Goal::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Goal::ValueAtMost { value, .. } => Some(self.value <= value),
            Goal::ValueAtLeast { value, .. } => Some(self.value >= value),
            Goal::EitherAtLeast { value, .. } if self.value >= value => Some(true),
            Goal::EitherAtLeast { ratio: least, .. } => self.ratio.map(|ratio| ratio >= least),
        }
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self, bench: &str) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            bench: &'a str,
            #[serde(flatten)]
            figure: &'a Figure,
            met: Option<bool>,
        }
        serde_json::to_string(&Line { bench, figure: self, met: self.met() })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(ratio) => write!(f, "<= {ratio}x"),
            Self::RatioAtLeast(ratio) => write!(f, ">= {ratio}x"),
            Self::ValueAtMost { value, unit } => write!(f, "<= {value} {unit}"),
            Self::ValueAtLeast { value, unit } => write!(f, ">= {value} {unit}"),
            Self::EitherAtLeast { value, unit, ratio } => write!(f, ">= {value} {unit} or >= {ratio}x"),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All figures, a row each, columns aligned.
pub(crate) fn table(figures: &[Figure]) -> String {
    let heading = ["figure", "value", "peer", "ratio", "goal", "met", "n"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(figures.iter().map(row)).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(figure: &Figure) -> [String; 7] {
    let met = figure.met().map(|met| if met { "yes" } else { "NO" });
    let peer = figure.peer.as_ref();
    [
        figure.figure.clone(),
        format!("{} {}", rounded(figure.value), figure.unit),
        peer.map(|peer| format!("{} {}: {}", rounded(peer.value), figure.unit, peer.name))
            .unwrap_or_default(),
        figure.ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
        figure.goal.map(|goal| goal.to_string()).unwrap_or_default(),
        met.unwrap_or_default().to_owned(),
        figure.n.to_string(),
    ]
}

/// Three digits that mean something.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure::new("decide".to_owned(), 30.0, "us", 5).against("raw scan", 20.0)
    }

    #[test]
    fn a_goal_is_met_by_the_number_it_speaks_of() {
        let met = |goal| figure().aiming_at(goal).met();
        assert_eq!(figure().met(), None);
        assert_eq!(met(Goal::RatioAtMost(1.5)), Some(true));
        assert_eq!(met(Goal::RatioAtMost(1.4)), Some(false));
        assert_eq!(met(Goal::RatioAtLeast(1.5)), Some(true));
        assert_eq!(met(Goal::RatioAtLeast(1.6)), Some(false));
        assert_eq!(met(Goal::ValueAtMost { value: 29.0, unit: "us" }), Some(false));
        let least = |value| met(Goal::ValueAtLeast { value, unit: "us" });
        assert_eq!([least(30.0), least(31.0)], [true, false].map(Some));
        let either = |value, ratio| met(Goal::EitherAtLeast { value, unit: "us", ratio });
        assert_eq!([either(30.0, 9.0), either(31.0, 1.5), either(31.0, 1.6)], [true, true, false].map(Some));
    }

    #[test]
    fn that_there_is_one_of_what_there_should_be_none_of_is_a_fault() {
        let errors = |count| Figure::new("errors".to_owned(), count, "", 9).aiming_at_none();
        assert_eq!(
            [errors(0.0), errors(1.0)].map(|figure| (figure.is_fault, figure.met())),
            [(true, Some(true)), (true, Some(false))]
        );
        assert!(!figure().aiming_at(Goal::RatioAtMost(1.0)).is_fault, "slow is not wrong");
    }

    #[test]
    fn a_peer_that_has_none_has_no_ratio() {
        assert_eq!(Figure::new("failed".to_owned(), 2.0, "calls", 9).against("peer", 0.0).ratio, None);
    }

    #[test]
    fn a_figure_is_one_line_of_json() {
        let json = figure().aiming_at(Goal::RatioAtMost(3.0)).to_json("schedule");
        assert_eq!(
            json.expect("plain data"),
            r#"{"bench":"schedule","figure":"decide","value":30.0,"unit":"us","peer":{"name":"raw scan","value":20.0},"ratio":1.5,"goal":"<= 3x","n":5,"met":true}"#
        );
    }

    #[test]
    fn a_table_is_aligned() {
        let missed = figure().aiming_at(Goal::RatioAtMost(1.0));
        let expected = "\
figure  value    peer               ratio  goal   met  n
decide  30.0 us  20.0 us: raw scan  1.50x  <= 1x  NO   5";
        assert_eq!(table(&[missed]), expected);
    }
}
