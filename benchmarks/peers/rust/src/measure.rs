//! Rounds of many operations, in processor time of this thread, as the Python benchmarks measure it. What prepares a
//! round, and what drops it, is not timed.

use cpu_time::ThreadTime;

/// The nanoseconds of one operation, one figure for each round.
pub struct Times {
    pub operations: usize,
    rounds: Vec<f64>,
}

impl Times {
    pub fn json(mut self) -> String {
        self.rounds.sort_by(f64::total_cmp);
        let n = self.rounds.len();
        let median = (self.rounds[(n - 1) / 2] + self.rounds[n / 2]) / 2.0;
        format!(
            r#"{{"median_ns": {median:.2}, "min_ns": {:.2}, "operations": {}, "rounds": {n}}}"#,
            self.rounds[0], self.operations
        )
    }
}

/// Times `burst`, which performs `operations` operations on what `prepare` made, and one more round to warm up.
///
/// Both get `state`: what all rounds share, such as a database.
pub fn rounds<S, P, R>(
    rounds: usize,
    operations: usize,
    mut state: S,
    mut prepare: impl FnMut(&mut S, u64) -> P,
    mut burst: impl FnMut(&mut S, &mut P) -> R,
) -> Times {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let mut prepared = prepare(&mut state, round as u64);
        let began = ThreadTime::now();
        let result = burst(&mut state, &mut prepared);
        let spent = began.elapsed();
        std::hint::black_box(result);
        if round > 0 {
            times.push(spent.as_nanos() as f64 / operations as f64);
        }
    }
    Times { operations, rounds: times }
}
