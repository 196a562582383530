//! [`Totals`]: what test programs counted.

use std::fmt;
use std::ops::AddAssign;

/// What test programs counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) programs: u64,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Totals {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        self.programs += 1;
        let words: Vec<_> = counts
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            if let [count, what] = pair
                && let Ok(count) = count.parse::<u64>()
            {
                match *what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} ignored, in {} programs",
            self.passed, self.failed, self.ignored, self.programs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed_over_programs_and_colours() {
        let mut totals = Totals::default();
        totals.add("running 5 tests");
        totals.add("test result: \u{1b}[32mok\u{1b}[m. 3 passed; 0 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.10s");
        totals.add("test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured");
        let sum = Totals {
            programs: 2,
            passed: 4,
            failed: 1,
            ignored: 2,
        };
        assert_eq!(totals, sum);
        totals += sum;
        assert_eq!(totals.passed, 8);
    }
}
