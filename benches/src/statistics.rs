//! Medians and quartiles of rounds.

/// The middle half of a set of figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter of the figures is below.
    pub low: f64,
    /// Half of the figures is below.
    pub median: f64,
    /// Three quarters of the figures are below.
    pub high: f64,
}

impl Quartiles {
    /// Those of some figures; of none they are no numbers.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| {
            figures
                .get((figures.len() as f64 * part) as usize)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }

    /// Those of the ratios of two contenders, round by round.
    pub fn of_ratios(contender: &[f64], reference: &[f64]) -> Self {
        let rounds = contender.iter().zip(reference);
        Self::of(rounds.map(|(contender, reference)| contender / reference))
    }
}
