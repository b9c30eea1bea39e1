//! The table of figures.

use crate::stats::Samples;

/// What a figure should not exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    /// In the figure's own unit.
    Value(f64),
    /// As a ratio to the floor.
    Ratio(f64),
}

/// One figure beside its floor.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// Which part of the samples is the figure: 0.5 for the median.
    pub(crate) percentile: f64,
    /// The floor's samples.
    pub(crate) floor: Samples,
    /// Ours.
    pub(crate) ours: Samples,
    /// What it should not exceed.
    pub(crate) aim: Option<Aim>,
}

impl Row {
    /// A row whose figure is the median.
    pub(crate) fn median(
        name: &str,
        unit: &'static str,
        floor: Samples,
        ours: Samples,
        aim: Option<Aim>,
    ) -> Row {
        Row {
            name: name.to_owned(),
            unit,
            percentile: 0.5,
            floor,
            ours,
            aim,
        }
    }

    fn cells(&self) -> [String; 9] {
        let (floor, ours) = (
            self.floor.percentile(self.percentile),
            self.ours.percentile(self.percentile),
        );
        let figure = |samples: &Samples, value: f64| {
            if samples.is_figure() {
                number(value)
            } else {
                "not a figure".to_owned()
            }
        };
        let ratio = ours / floor;
        let whole = self.floor.is_figure() && self.ours.is_figure() && ratio.is_finite();
        let reached = |value: f64, most: f64, is_figure: bool| match (is_figure, value <= most) {
            (false, _) => "?",
            (true, true) => "reached",
            (true, false) => "missed",
        };
        let aim = match self.aim {
            None => String::new(),
            Some(Aim::Value(most)) => format!(
                "≤ {} {}: {}",
                number(most),
                self.unit,
                reached(ours, most, self.ours.is_figure())
            ),
            Some(Aim::Ratio(most)) => {
                format!("≤ {most:.2} × floor: {}", reached(ratio, most, whole))
            }
        };
        [
            self.name.clone(),
            self.unit.to_owned(),
            figure(&self.floor, floor),
            figure(&self.ours, ours),
            if whole {
                format!("{ratio:.2}")
            } else {
                "-".to_owned()
            },
            format!("{}/{}", self.floor.count(), self.ours.count()),
            spread(&self.floor),
            spread(&self.ours),
            aim,
        ]
    }
}

const HEAD: [&str; 9] = [
    "figure",
    "unit",
    "floor",
    "ours",
    "ratio",
    "n",
    "floor: min..max (MAD)",
    "ours: min..max (MAD)",
    "aim",
];

/// Renders the rows, columns under each other.
pub(crate) fn render(rows: &[Row]) -> String {
    let lines: Vec<[String; 9]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    lines
        .iter()
        .map(|line| {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

fn spread(samples: &Samples) -> String {
    if samples.count() == 0 {
        return "-".to_owned();
    }
    format!(
        "{}..{} ({})",
        number(samples.min()),
        number(samples.max()),
        number(samples.mad())
    )
}

/// Three digits are enough for anything measured here.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize, floor: f64, ours: f64, aim: Option<Aim>) -> Row {
        Row::median(
            "x",
            "ms",
            std::iter::repeat_n(floor, n).collect(),
            std::iter::repeat_n(ours, n).collect(),
            aim,
        )
    }

    #[test]
    fn a_figure_has_its_ratio_and_says_whether_the_aim_is_reached() {
        let cells = row(10, 100.0, 114.0, Some(Aim::Ratio(1.15))).cells();
        assert_eq!(cells[2..6], ["100", "114", "1.14", "10/10"]);
        assert_eq!(cells[8], "≤ 1.15 × floor: reached");
        assert_eq!(
            row(10, 1.0, 13.0, Some(Aim::Value(12.0))).cells()[8],
            "≤ 12.0 ms: missed"
        );
    }

    #[test]
    fn nine_samples_are_printed_as_no_figure() {
        let cells = row(9, 1.0, 2.0, Some(Aim::Value(5.0))).cells();
        assert_eq!(cells[2..5], ["not a figure", "not a figure", "-"]);
        assert_eq!(cells[8], "≤ 5.00 ms: ?");
    }

    #[test]
    fn columns_stand_under_each_other() {
        let text = render(&[row(10, 1.0, 2.0, None), row(10, 1000.0, 2000.0, None)]);
        let at: Vec<usize> = text
            .lines()
            .skip(1)
            .map(|line| line.find("ms").unwrap_or_default())
            .collect();
        assert_eq!(at[0], at[1]);
    }
}
