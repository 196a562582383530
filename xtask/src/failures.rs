//! [`Failures`]: the tests that failed, and what each said last.

use std::fmt;

/// Lines of a test that are kept: a panic, its place and the values that it names.
const MOST_LINES: usize = 12;

/// Tests that are kept: more fail only when everything does.
const MOST_TESTS: usize = 20;

/// The tests that failed, and what each said: a runner tells that in the middle of ten thousand lines, of which a record may
/// keep the end.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    tests: Vec<Failed>,
    more: usize,
    /// The test whose output comes now.
    speaker: Option<usize>,
}

#[derive(Debug)]
struct Failed {
    name: String,
    said: Vec<String>,
}

impl Failures {
    /// Looks for a test that failed, or for the output of one, in a line of the test runner.
    pub(crate) fn add(&mut self, line: &str) {
        if let Some(name) = failed(line) {
            match self.tests.len() < MOST_TESTS {
                true => self.tests.push(Failed {
                    name: name.to_owned(),
                    said: Vec::new(),
                }),
                false => self.more += 1,
            }
            return;
        }
        let speaker = line
            .strip_prefix("---- ")
            .and_then(|line| line.strip_suffix(" stdout ----"));
        if let Some(name) = speaker {
            // Two programs may have a test of one name: the later is the one whose program speaks.
            self.speaker = self.tests.iter().rposition(|test| test.name == name);
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.speaker = None;
        } else if let Some(test) = self.speaker.and_then(|at| self.tests.get_mut(at))
            && !line.trim().is_empty()
            && test.said.len() < MOST_LINES
        {
            test.said.push(line.to_owned());
        }
    }
}

/// The name of the test in a line like `test a::b ... FAILED`, without what the runner expects of it: where it tells what the
/// test said, it names it so.
pub(crate) fn failed(line: &str) -> Option<&str> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let expected = [" - should panic", " - compile fail", " - compile"];
    let name = expected
        .iter()
        .find_map(|expected| name.strip_suffix(expected))
        .unwrap_or(name);
    outcome.contains("FAILED").then_some(name)
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.tests {
            writeln!(f, "failed    {}", test.name)?;
            for line in &test.said {
                writeln!(f, "          {line}")?;
            }
        }
        match self.more {
            0 => Ok(()),
            more => writeln!(f, "failed    {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> String {
        let mut failures = Failures::default();
        lines.lines().for_each(|line| failures.add(line));
        failures.to_string()
    }

    #[test]
    fn a_test_that_failed_is_named_with_its_panic() {
        let lines = "test a::good ... ok\ntest a::bad ... FAILED\ntest a::slow ... ignored\n\nfailures:\n\n\
                     ---- a::bad stdout ----\n\nthread 'a::bad' panicked at a.rs:7:5:\nleft: 1\n\n\n\
                     failures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored\n\
                     test b::bad ... \u{1b}[31mFAILED\u{1b}[m\n";
        assert_eq!(
            read(lines),
            "failed    a::bad\n          thread 'a::bad' panicked at a.rs:7:5:\n          left: 1\nfailed    b::bad\n"
        );
    }

    #[test]
    fn a_test_that_is_to_panic_is_named_with_what_it_said() {
        let lines = "test a - should panic ... FAILED\ntest b.rs - c (line 9) - compile fail ... FAILED\n\nfailures:\n\n\
                     ---- a stdout ----\nnote: it did not panic\n\n\
                     ---- b.rs - c (line 9) stdout ----\nit compiled\n";
        assert_eq!(
            read(lines),
            "failed    a\n          note: it did not panic\nfailed    b.rs - c (line 9)\n          it compiled\n"
        );
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let named: String = (0..30).map(|n| format!("test t{n} ... FAILED\n")).collect();
        let long = "---- t0 stdout ----\n".to_owned() + &"said\n".repeat(500);
        let read = read(&(named + &long));
        assert_eq!(read.lines().count(), MOST_TESTS + MOST_LINES + 1);
        assert!(read.ends_with("failed    10 more\n"), "{read}");
    }
}
