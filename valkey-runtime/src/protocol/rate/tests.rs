use proptest::prelude::*;

use crate::protocol::rate::*;

const NOW: u64 = 1_767_225_600_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// A state, and the rule that decides on it.
struct Limit {
    rule: Rule,
    state: Option<[u8; STATE]>,
}

impl Limit {
    fn ask(&mut self, act: Act, cost: u64, now: u64) -> Verdict {
        let rule = self.rule;
        let state = self.state.as_ref().map(|state| &state[..]);
        let (verdict, then) = decide(state, &Ask { rule, act, cost }, now);
        match then {
            Then::Keep => {}
            Then::Remove => self.state = None,
            Then::Put(state, life) => {
                self.state = Some(state);
                assert!(life * 1000 >= verdict.reset, "it is gone too early");
            }
        }
        verdict
    }

    fn take(&mut self, cost: u64, now: u64) -> Verdict {
        self.ask(Act::Take, cost, now)
    }
}

fn limit(rule: Result<Rule, Error>) -> Limit {
    let (rule, state) = (rule.unwrap(), None);
    Limit { rule, state }
}

#[test]
fn gcra_lets_the_burst_through_and_then_one_at_a_time() {
    let mut limit = limit(Rule::gcra(10, SECOND, 3));
    for remaining in [2, 1, 0] {
        assert_eq!(limit.take(1, NOW).remaining, remaining);
    }
    let refused = limit.take(1, NOW);
    assert!(!refused.allowed);
    assert_eq!((refused.retry_after, refused.reset), (100_000, 300_000));
    assert!(!limit.take(1, NOW + 99_999).allowed);
    assert!(limit.take(1, NOW + 100_000).allowed);
    assert!(!limit.take(1, NOW + 100_000).allowed);
    assert!(limit.take(3, NOW + 400_000).allowed);
}

#[test]
fn a_fixed_window_restarts_with_each_period() {
    let mut limit = limit(Rule::fixed(3, SECOND));
    assert!(limit.take(3, NOW + 900_000).allowed);
    let refused = limit.take(1, NOW + 999_999);
    assert!(!refused.allowed);
    assert_eq!((refused.retry_after, refused.reset), (1, 1));
    assert!(limit.take(3, NOW + 1_000_000).allowed);
}

/// No server writes such a state, unless its clock was set back so far: it would refuse requests
/// until its time has come.
#[test]
fn a_state_from_the_future_is_as_none() {
    const AHEAD: u64 = 10_000_000;
    for rule in [
        Rule::gcra(2, SECOND, 2),
        Rule::fixed(2, SECOND),
        Rule::sliding(2, SECOND),
    ] {
        let rule = rule.unwrap();
        for (ahead, allowed) in [(AHEAD, false), (AHEAD + 1_000_000, true), (1 << 50, true)] {
            let mut limit = limit(Ok(rule));
            assert!(limit.take(2, NOW + ahead).allowed);
            let verdict = limit.take(2, NOW);
            assert_eq!(verdict.allowed, allowed, "{rule:?} {ahead}");
            if allowed {
                assert!(!limit.take(1, NOW).allowed, "it counts from then on");
            }
        }
        // Each number at its maximum.
        let (letter, _) = rule.parameters();
        let state = format!("{letter}{}", "9".repeat(48));
        let mut limit = limit(Ok(rule));
        limit.state = Some(state.into_bytes().try_into().unwrap());
        assert!(limit.take(2, NOW).allowed);
    }
}

#[test]
fn a_window_begins_with_the_clocks_own() {
    let seconds = [
        1,
        60,
        900,
        1001,
        3600,
        7919,
        86_400,
        7 * 86_400,
        366 * 86_400,
    ];
    for period in seconds.map(Duration::from_secs) {
        for rule in [Rule::fixed(5, period), Rule::sliding(5, period)] {
            let (_, [_, step, steps]) = rule.unwrap().parameters();
            assert_eq!(u128::from(step * steps), period.as_micros());
            assert!(steps <= STEPS);
        }
    }
    let mut limit = limit(Rule::fixed(5, 86_400 * SECOND));
    assert_eq!(limit.take(1, NOW).reset, 86_400_000_000);
}

#[test]
fn a_sliding_window_weighs_the_one_before() {
    let mut limit = limit(Rule::sliding(10, SECOND));
    assert!(limit.take(10, NOW + 900_000).allowed);
    let refused = limit.take(5, NOW + 1_000_000);
    assert!(!refused.allowed);
    assert_eq!(refused.retry_after, 500_000);
    assert!(!limit.take(6, NOW + 1_500_000).allowed);
    assert!(limit.take(5, NOW + 1_500_000).allowed);
    assert!(!limit.take(1, NOW + 1_500_000).allowed);
}

#[test]
fn a_look_counts_nothing_and_a_reset_forgets() {
    for rule in [
        Rule::gcra(2, SECOND, 2),
        Rule::fixed(2, SECOND),
        Rule::sliding(2, SECOND),
    ] {
        let mut limit = limit(rule);
        limit.take(2, NOW);
        assert!(!limit.ask(Act::Look, 1, NOW).allowed);
        let reset = limit.ask(Act::Reset, 1, NOW);
        assert_eq!((reset.remaining, reset.reset, limit.state), (2, 0, None));
        assert_eq!(limit.ask(Act::Look, 1, NOW), limit.ask(Act::Look, 1, NOW));
        assert!(limit.take(2, NOW).allowed);
    }
}

#[test]
fn a_rule_out_of_bounds_is_refused() {
    let day = SECOND * 86_400;
    for rule in [
        Rule::gcra(0, SECOND, 1),
        Rule::gcra(1, SECOND, 0),
        Rule::gcra(MOST + 1, SECOND, 1),
        Rule::gcra(1, SECOND / 1001, 1),
        Rule::gcra(1, day * 367, 1),
        Rule::gcra(1, day * 366, MOST),
        Rule::fixed(0, SECOND),
        Rule::sliding(1, Duration::ZERO),
    ] {
        assert_eq!(
            rule.unwrap_err().kind(),
            crate::base::error::ErrorKind::Config
        );
    }
    assert_eq!(
        Rule::gcra(99_999, day * 30, 99_999).unwrap().limit(),
        99_999
    );
}

fn rules() -> impl Strategy<Value = Rule> {
    let numbers = (1..=50u32, 1_000..5_000_000u64, 1..=50u32, 0..3u32);
    numbers.prop_map(|(quota, micros, burst, algorithm)| {
        let period = Duration::from_micros(micros);
        let rule = match algorithm {
            0 => Rule::gcra(quota, period, burst),
            1 => Rule::fixed(quota, period),
            _ => Rule::sliding(quota, period),
        };
        rule.unwrap()
    })
}

proptest! {
    /// To the microsecond: then, and not before. The memory of refusals depends on it.
    #[test]
    fn a_refused_request_is_allowed_exactly_at_its_retry_time(
        rule in rules(),
        steps in prop::collection::vec((0..1_000_000u64, 1..=50u64), 1..40),
    ) {
        let (mut limit, mut now) = (Limit { rule, state: None }, NOW);
        for (pause, cost) in steps {
            now += pause;
            let cost = cost.min(rule.limit());
            let verdict = limit.take(cost, now);
            prop_assert!(verdict.remaining <= rule.limit());
            prop_assert_eq!(limit.ask(Act::Look, rule.limit(), now + verdict.reset).allowed, true);
            let (left, more) = (verdict.remaining, now + verdict.more_after);
            if verdict.more_after == 0 {
                prop_assert_eq!(left, rule.limit());
            } else {
                prop_assert!(limit.ask(Act::Look, left + 1, more).allowed);
                prop_assert!(!limit.ask(Act::Look, left + 1, more - 1).allowed);
            }
            if verdict.allowed {
                prop_assert_eq!(verdict.retry_after, 0);
            } else {
                prop_assert!(verdict.more_after <= verdict.retry_after);
                let retry = now + verdict.retry_after;
                prop_assert!(limit.ask(Act::Look, cost, retry).allowed);
                prop_assert!(!limit.ask(Act::Look, cost, retry - 1).allowed);
            }
        }
    }
}
