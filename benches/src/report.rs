//! `docs/benchmarks.md`: each benchmark owns one section of it, between two markers.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::measure::Paired;

/// A target that a figure has to meet.
#[derive(Debug, Clone)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// What came out.
    pub value: f64,
    /// At least this much.
    pub at_least: Option<f64>,
    /// At most this much.
    pub at_most: Option<f64>,
}

impl Target {
    /// Whether the figure is good enough.
    pub fn is_met(&self) -> bool {
        self.at_least.is_none_or(|least| self.value >= least)
            && self.at_most.is_none_or(|most| self.value <= most)
    }
}

/// Prints the targets that are missed. An exit code that says so when it was asked for.
pub fn verdict(targets: &[Target], check: bool) -> ExitCode {
    let mut missed = targets.iter().filter(|target| !target.is_met()).peekable();
    let code = match check && missed.peek().is_some() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    for target in missed {
        println!("missed: {} is {:.3}", target.what, target.value);
    }
    code
}

/// The columns of [`comparison`], after those of its own that a table begins with.
pub const COMPARISON: &str = "tasks | redkit ops/s | peer ops/s | ratio | redkit CPU µs/op | peer CPU µs/op | \
                              redkit p50/p99 µs | peer p50/p99 µs |";

/// A row of a table: ours beside a peer. `what` is the text of the first columns.
pub fn comparison(what: &str, tasks: usize, paired: &Paired) -> String {
    let Paired { ours, peer, .. } = paired;
    format!(
        "| {what} | {tasks} | {:.0} | {:.0} | **{:.2}** | {:.1} | {:.1} | {}/{} | {}/{} |",
        ours.throughput,
        peer.throughput,
        paired.throughput_ratio,
        ours.cpu,
        peer.cpu,
        ours.latency.value_at_quantile(0.5),
        ours.latency.value_at_quantile(0.99),
        peer.latency.value_at_quantile(0.5),
        peer.latency.value_at_quantile(0.99),
    )
}

/// The part of `docs/benchmarks.md` that one benchmark writes.
#[derive(Debug, Clone)]
pub struct Section {
    /// The benchmark's name, as in `cargo xtask bench <name>`.
    pub name: &'static str,
    /// The text, in Markdown, beginning with a heading.
    pub text: String,
}

/// Puts a section in its place, or at the end when it is new.
///
/// # Errors
/// When the file cannot be read or written.
pub fn write_section(section: &Section) -> io::Result<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => TITLE.to_owned(),
        Err(error) => return Err(error),
    };
    std::fs::write(&path, replace(&before, section))?;
    Ok(path)
}

const TITLE: &str = "# Benchmarks\n\n\
    Written by `cargo xtask bench <name>`. Every row measures redkit and a peer in one run on one\n\
    server, in turns; the ratios are medians over the rounds. Trust the ratios more than the\n\
    figures: they are of the machine they were measured on.\n";

fn replace(before: &str, section: &Section) -> String {
    let (open, close) = (
        format!("<!-- bench:{} -->", section.name),
        format!("<!-- /bench:{} -->", section.name),
    );
    let new = format!("{open}\n{}\n{close}", section.text.trim());
    let found = before.find(&open).and_then(|start| {
        Some((
            start,
            start + before.get(start..)?.find(&close)? + close.len(),
        ))
    });
    match found.and_then(|(start, end)| Some((before.get(..start)?, before.get(end..)?))) {
        Some((head, tail)) => format!("{head}{new}{tail}"),
        None => format!("{}\n\n{new}\n", before.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let section = |text: &str| Section {
            name: "x",
            text: text.to_owned(),
        };
        let once = replace("# T\n", &section("one"));
        assert_eq!(once, "# T\n\n<!-- bench:x -->\none\n<!-- /bench:x -->\n");
        let other = replace(
            &once,
            &Section {
                name: "y",
                text: "why".to_owned(),
            },
        );
        let twice = replace(&other, &section("two"));
        assert_eq!(twice, other.replace("one", "two"));
    }

    #[test]
    fn targets_have_two_sides() {
        let target = |value, at_least, at_most| Target {
            what: String::new(),
            value,
            at_least,
            at_most,
        };
        assert!(target(0.95, Some(0.95), None).is_met());
        assert!(!target(0.94, Some(0.95), None).is_met());
        assert!(!target(1.09, None, Some(1.08)).is_met());
        assert!(!target(f64::NAN, Some(0.95), None).is_met());
    }
}
