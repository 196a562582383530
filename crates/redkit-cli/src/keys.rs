//! `redkit keys`: what takes the memory.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use redkit_monitor::{Analysis, AnalysisConfig, KeyspaceReport, Statistics, TTL_BOUNDS};
use serde::Serialize;

use crate::args::Common;
use crate::connect;
use crate::failure::Failure;
use crate::format;
use crate::output::{self, Table};

const HELP: &str = "\
It goes through the keys with SCAN at a bounded pace, never KEYS, and reads sizes and times to live, no values.
Control-C ends it, and what was seen until then is shown.

Examples:
  redkit keys
  redkit keys --rate 1000 --sample 10           gently, on a server that is busy
  redkit keys --max-keys 100000                 a part: SCAN gives keys in no order
  redkit --json keys | jq '.orphans'            keys of redkit's that never expire, though they should";

/// Analyses the key space: what takes the memory by prefix, the biggest keys, times to live, orphans
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct KeysArgs {
    /// At most so many keys in a second on each server
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Looks at size and time to live of one key in so many; all are counted
    #[arg(long, default_value_t = 1)]
    sample: u32,
    /// Ends after so many keys on each server
    #[arg(long)]
    max_keys: Option<u64>,
    /// How many parts of a key, up to a colon each, make its prefix
    #[arg(long, default_value_t = 3)]
    depth: usize,
    /// How many prefixes, and how many of the biggest keys, are shown
    #[arg(long, default_value_t = 20)]
    top: usize,
}

/// What `--json` prints: see `docs/cli.md`.
#[derive(Debug, Serialize)]
struct Report {
    scanned: u64,
    sampled: u64,
    is_complete: bool,
    took_seconds: f64,
    prefixes: Vec<PrefixRow>,
    other: PrefixRow,
    biggest: Vec<BigRow>,
    ttl: Vec<TtlRow>,
    without_ttl: u64,
    orphans: u64,
    orphan_examples: Vec<String>,
    failed: Vec<FailedRow>,
}

#[derive(Debug, Serialize)]
struct PrefixRow {
    prefix: String,
    keys: u64,
    bytes: u64,
    without_ttl: u64,
}

#[derive(Debug, Serialize)]
struct BigRow {
    key: String,
    kind: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct TtlRow {
    /// Absent for the last class, which has no upper bound.
    up_to_seconds: Option<f64>,
    keys: u64,
}

#[derive(Debug, Serialize)]
struct FailedRow {
    server: String,
    error: String,
}

pub(crate) async fn run(common: &Common, args: &KeysArgs) -> Result<ExitCode, Failure> {
    let client = connect::client(common).await?;
    let config = AnalysisConfig::default()
        .keys_per_second(args.rate)
        .sample_every(args.sample)
        .max_keys(args.max_keys.unwrap_or(u64::MAX))
        .prefix_depth(args.depth)
        .biggest(args.top);
    let analysis = Statistics::new(&client).analyze(config)?;
    let report = watched(analysis).await?;
    client.shutdown().await;
    let report = Report::new(report, args.top);
    match common.json {
        true => output::json(&report)?,
        false => report.print()?,
    }
    // Nothing stands for what was not seen.
    Ok(match report.failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Shows how far it is, and ends it on Control-C.
async fn watched(analysis: Analysis) -> Result<KeyspaceReport, Failure> {
    let mut progress = analysis.watch();
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    loop {
        tokio::select! {
            changed = progress.changed() => {
                // The sender goes when the analysis has ended.
                if changed.is_err() {
                    break;
                }
                let now = *progress.borrow_and_update();
                bar.set_length(now.total.max(now.scanned));
                bar.set_position(now.scanned);
            }
            _ = tokio::signal::ctrl_c() => {
                analysis.cancel();
                break;
            }
        }
    }
    let report = analysis.finish().await;
    bar.finish_and_clear();
    Ok(report?)
}

impl Report {
    fn new(report: KeyspaceReport, top: usize) -> Self {
        let bounds = TTL_BOUNDS.iter().copied().map(Some).chain([None]);
        let row = |prefix: &redkit_monitor::PrefixStats| PrefixRow {
            prefix: prefix.prefix.clone(),
            keys: prefix.keys,
            bytes: prefix.bytes(),
            without_ttl: prefix.without_ttl,
        };
        Self {
            scanned: report.scanned,
            sampled: report.sampled,
            is_complete: report.is_complete,
            took_seconds: format::seconds(report.took),
            prefixes: report.prefixes.iter().take(top).map(row).collect(),
            other: report
                .prefixes
                .iter()
                .skip(top)
                .fold(row(&report.other), |sum, prefix| PrefixRow {
                    keys: sum.keys + prefix.keys,
                    bytes: sum.bytes + prefix.bytes(),
                    without_ttl: sum.without_ttl + prefix.without_ttl,
                    ..sum
                }),
            biggest: report
                .biggest
                .iter()
                .map(|key| BigRow {
                    key: format::text(&key.key),
                    kind: key.kind.clone(),
                    bytes: key.bytes,
                })
                .collect(),
            ttl: bounds
                .zip(&report.ttl)
                .map(|(bound, keys)| TtlRow {
                    up_to_seconds: bound.map(format::seconds),
                    keys: *keys,
                })
                .collect(),
            without_ttl: report.without_ttl,
            orphans: report.orphans,
            orphan_examples: report
                .orphan_examples
                .iter()
                .map(|key| format::text(key))
                .collect(),
            failed: report
                .failed
                .iter()
                .map(|(server, error)| FailedRow {
                    server: server.to_string(),
                    error: connect::without_secrets(&error.to_string()),
                })
                .collect(),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        let part = if self.is_complete {
            "all keys"
        } else {
            "a part of the keys"
        };
        output::line(&format!(
            "{} keys seen ({part}), {} of them sized",
            self.scanned, self.sampled
        ))?;
        let mut prefixes = Table::new(&["prefix", "keys", "size, about", "without ttl"]);
        let other = (self.other.keys > 0).then_some(&self.other);
        for (prefix, row) in self
            .prefixes
            .iter()
            .map(|row| (row.prefix.as_str(), row))
            .chain(other.map(|row| ("(all others)", row)))
        {
            let prefix = if prefix.is_empty() { "(none)" } else { prefix };
            prefixes.row([
                prefix.to_owned(),
                row.keys.to_string(),
                format::bytes(row.bytes),
                row.without_ttl.to_string(),
            ]);
        }
        output::line("")?;
        prefixes.print("there are no keys")?;
        if !self.biggest.is_empty() {
            let mut biggest = Table::new(&["biggest key", "type", "size"]);
            for row in &self.biggest {
                biggest.row([
                    format::cut(&row.key, 80),
                    row.kind.clone(),
                    format::bytes(row.bytes),
                ]);
            }
            output::line("")?;
            biggest.print("")?;
        }
        let mut ttl = Table::new(&["time to live", "keys sized"]);
        for row in &self.ttl {
            let class = match row.up_to_seconds.map(Duration::try_from_secs_f64) {
                Some(Ok(bound)) => format!("up to {}", format::duration(bound)),
                _ => "longer".to_owned(),
            };
            ttl.row([class, row.keys.to_string()]);
        }
        ttl.row(["for ever".to_owned(), self.without_ttl.to_string()]);
        output::line("")?;
        ttl.print("")?;
        if self.orphans > 0 {
            output::line(&format!(
                "\n{} orphans: keys of redkit's that should expire and do not. Something else has written or changed them, such as:",
                self.orphans
            ))?;
            for example in &self.orphan_examples {
                output::line(&format!("  {example}"))?;
            }
        }
        for failed in &self.failed {
            eprintln!(
                "warning: {} was not seen to the end: {}",
                failed.server, failed.error
            );
        }
        Ok(())
    }
}
