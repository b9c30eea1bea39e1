//! Samples, and the few numbers that are said of them.

/// Fewer samples than this make no figure.
pub(crate) const LEAST: usize = 10;

/// Measured values of one kind, in one unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Takes values in any order.
    pub(crate) fn new(mut values: Vec<f64>) -> Samples {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        Samples(values)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there are enough for a figure.
    pub(crate) fn is_figure(&self) -> bool {
        self.count() >= LEAST
    }

    /// The value below which the share `p` (0 to 1) of the values lies, between neighbours in proportion. 0 when there are none.
    pub(crate) fn percentile(&self, p: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return 0.0;
        };
        let at = p.clamp(0.0, 1.0) * last as f64;
        // Below `last`, so it fits.
        let (low, share) = (at.floor() as usize, at.fract());
        let (a, b) = (self.0[low], self.0[(low + 1).min(last)]);
        a + (b - a) * share
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    /// The smallest value.
    pub(crate) fn min(&self) -> f64 {
        self.percentile(0.0)
    }

    /// The largest value.
    pub(crate) fn max(&self) -> f64 {
        self.percentile(1.0)
    }

    /// The median of the distances from the median.
    pub(crate) fn mad(&self) -> f64 {
        let median = self.median();
        Samples::new(self.0.iter().map(|value| (value - median).abs()).collect()).median()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Samples::new(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn the_middle_and_the_ends_are_found() {
        let s = samples(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            (s.min(), s.median(), s.max(), s.mad()),
            (1.0, 3.0, 5.0, 1.0)
        );
        assert_eq!(samples(&[1.0, 2.0]).median(), 1.5);
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        let s: Samples = (0..=20).map(f64::from).collect();
        assert_eq!((s.percentile(0.5), s.percentile(0.95)), (10.0, 19.0));
        assert_eq!(s.percentile(2.0), 20.0);
    }

    #[test]
    fn one_outlier_moves_neither_median_nor_mad() {
        let s = samples(&[1.0, 1.0, 1.0, 1.0, 1000.0]);
        assert_eq!((s.median(), s.mad()), (1.0, 0.0));
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(samples(&[]).median(), 0.0);
        assert_eq!(samples(&[f64::NAN]).count(), 0);
    }

    #[test]
    fn nine_samples_are_no_figure() {
        assert!(!samples(&[1.0; 9]).is_figure());
        assert!(samples(&[1.0; 10]).is_figure());
    }
}
