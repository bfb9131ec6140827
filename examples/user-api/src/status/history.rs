//! The history: the samples of the last minutes, which the page shows as soon as it is opened.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::sample::{Point, Sample};

const STEP: Duration = Duration::from_secs(1);
pub(crate) const SPAN: Duration = Duration::from_secs(5 * 60);
/// The time over which rates in numbers are measured: a single second would make them jump.
const WINDOW: Duration = Duration::from_secs(10);

/// One more than there are points.
const MOST: usize = (SPAN.as_secs() / STEP.as_secs()) as usize + 1;

/// A ring of samples, the newest at the back.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: Mutex<VecDeque<Sample>>,
}

impl History {
    /// Adds a sample, and drops the oldest of too many. One that is not later than the last is
    /// ignored, as there are no rates between the two.
    pub(crate) fn add(&self, sample: Sample) {
        let mut samples = self.samples();
        if samples.back().is_some_and(|last| last.at >= sample.at) {
            return;
        }
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The points that are later than `after`. They are all of them for a page that has points of
    /// a service with another clock.
    pub(crate) fn points(&self, after: Option<u64>) -> Vec<Point> {
        let samples = self.samples();
        let newest = samples.back().map(|sample| sample.at);
        let after = after.filter(|after| Some(*after) <= newest);
        let pairs = samples.iter().zip(samples.iter().skip(1));
        pairs
            .filter(|(_, sample)| Some(sample.at) > after)
            .map(|(before, sample)| sample.since(before))
            .collect()
    }

    /// The first and the last sample of the window, once there are two samples.
    pub(crate) fn window(&self) -> Option<(Sample, Sample)> {
        let samples = self.samples();
        let newest = samples.back()?;
        let first = samples
            .iter()
            .find(|sample| newest.seconds(sample) <= WINDOW.as_secs_f64())?;
        // After a pause, the last sample alone is in the window.
        let first = match samples.len() {
            0 | 1 => return None,
            len if first.at == newest.at => &samples[len - 2],
            _ => first,
        };
        Some((first.clone(), newest.clone()))
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `sample` now and after each step, with the time. It ends when it is dropped.
///
/// The time goes on evenly when the system's clock is set.
pub(crate) async fn each_step(mut sample: impl FnMut(SystemTime)) {
    let (start, began) = (SystemTime::now(), Instant::now());
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        steps.tick().await;
        sample(start + began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tokio::time::timeout;
    use valkey_runtime::Store;

    use super::*;
    use crate::telemetry::Telemetry;

    fn add(history: &History, second: u64) {
        let (store, telemetry) = (Store::memory(), Telemetry::default());
        let at = UNIX_EPOCH + Duration::from_secs(second);
        history.add(Sample::take(&store, &telemetry, at));
    }

    fn ends(history: &History) -> Option<[u64; 2]> {
        history.window().map(|(first, last)| [first.at, last.at])
    }

    #[tokio::test]
    async fn the_oldest_samples_make_room() {
        let history = History::default();
        for second in 0..1000 {
            add(&history, second);
        }
        let points = history.points(None);
        let ends = [points[0].at, points[points.len() - 1].at];
        assert_eq!((points.len(), ends), (300, [700_000, 999_000]));
    }

    #[tokio::test]
    async fn a_page_is_given_the_points_that_it_does_not_have() {
        let history = History::default();
        let given = |after| -> Vec<u64> {
            let points = history.points(after);
            points.iter().map(|point| point.at).collect()
        };
        assert_eq!(given(None), [0; 0]);
        for second in [1, 2, 2, 1, 3, 5] {
            add(&history, second);
        }
        assert_eq!(given(None), [2000, 3000, 5000]);
        assert_eq!(given(Some(2000)), [3000, 5000]);
        assert_eq!(given(Some(5000)), [0; 0]);
        // The points of a page that was open when the clock was set back.
        assert_eq!(given(Some(9000)), [2000, 3000, 5000]);
    }

    #[tokio::test]
    async fn the_window_is_the_last_ten_seconds_or_one_step() {
        let history = History::default();
        add(&history, 100);
        assert_eq!(ends(&history), None);
        add(&history, 103);
        assert_eq!(ends(&history), Some([100_000, 103_000]));
        add(&history, 111);
        assert_eq!(ends(&history), Some([103_000, 111_000]));
        add(&history, 200);
        assert_eq!(ends(&history), Some([111_000, 200_000]));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_sample_at_the_start_and_after_each_step() {
        let mut times = Vec::new();
        let steps = each_step(|at| times.push(at));
        let ended = timeout(Duration::from_millis(3500), steps).await;
        assert!(ended.is_err());
        let since = times.iter().map(|at| at.duration_since(times[0]));
        let since: Vec<_> = since.map(|since| since.expect("later")).collect();
        assert_eq!(since, [0, 1, 2, 3].map(Duration::from_secs));
    }
}
