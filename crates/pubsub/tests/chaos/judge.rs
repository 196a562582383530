//! What came of the messages of a fleet, by the journal of its handlers.

use std::collections::{BTreeMap, BTreeSet};

use crate::processes::is_poison;

/// A line of the journal.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    message: u64,
    attempt: u32,
    pid: u32,
    what: String,
}

impl Line {
    pub(crate) fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let (message, attempt, pid) = (number(), number(), number());
        Self {
            message,
            attempt: u32::try_from(attempt).unwrap(),
            pid: u32::try_from(pid).unwrap(),
            what: words.next().unwrap().to_owned(),
        }
    }
}

/// The figures of a run.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "they are printed")]
pub(crate) struct Figures {
    messages: u64,
    handled: usize,
    dead: usize,
    /// Messages that were handled more than once: each at least once by a process that was killed or paused.
    doubled: usize,
    failed_attempts: usize,
    /// Attempts that ended without an outcome, or were never begun: of processes that were killed or paused.
    burnt_attempts: usize,
}

/// Checks what was promised. `troubled` are the processes that were killed or paused; messages from `calm` on were
/// published when that was over and only drains went on.
pub(crate) fn judge(
    journal: &[Line],
    messages: u64,
    calm: u64,
    dead: &BTreeSet<u64>,
    troubled: &BTreeSet<u32>,
    keys: Option<u64>,
) -> Figures {
    let mut of_each: BTreeMap<u64, Vec<&Line>> = BTreeMap::new();
    for line in journal {
        of_each.entry(line.message).or_default().push(line);
    }
    let mut figures = Figures {
        messages,
        dead: dead.len(),
        ..Figures::default()
    };
    for message in 0..messages {
        let lines = of_each.get(&message).map(Vec::as_slice).unwrap_or_default();
        let done: Vec<&&Line> = lines.iter().filter(|line| line.what == "done").collect();
        if is_poison(message) {
            assert!(done.is_empty() && dead.contains(&message), "{message}");
        } else {
            assert!(!done.is_empty(), "{message} is lost: {lines:?}");
            assert!(!dead.contains(&message), "{message} is dead: {lines:?}");
        }
        figures.handled += usize::from(!done.is_empty());
        if done.len() > 1 {
            figures.doubled += 1;
            let is_of_troubled = done.iter().any(|line| troubled.contains(&line.pid));
            assert!(is_of_troubled, "{message} is doubled: {lines:?}");
        }
        let failed = lines.iter().filter(|line| line.what == "failed").count();
        figures.failed_attempts += failed;
        // Each attempt before the last one that was begun ended with a failure, or with its process.
        let last = lines.iter().map(|line| line.attempt).max().unwrap_or(0);
        let ends: BTreeSet<u32> = lines
            .iter()
            .filter(|line| line.what == "failed")
            .map(|line| line.attempt)
            .collect();
        let burnt = (1..last).filter(|attempt| !ends.contains(attempt)).count();
        figures.burnt_attempts += burnt;
        assert!(
            burnt == 0 || message < calm,
            "a drain has cost an attempt of {message}: {lines:?}"
        );
    }
    if let Some(keys) = keys {
        check_order(journal, keys);
    }
    figures
}

/// The first time that each message was done is in the order of its key.
fn check_order(journal: &[Line], keys: u64) {
    let mut done = BTreeSet::new();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for line in journal.iter().filter(|line| line.what == "done") {
        if !done.insert(line.message) {
            continue;
        }
        let before = last.insert(line.message % keys, line.message);
        assert!(
            before.is_none_or(|before| before < line.message),
            "{} came after {before:?}",
            line.message
        );
    }
}
