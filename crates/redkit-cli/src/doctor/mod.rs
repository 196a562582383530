//! `redkit doctor`: what the patterns need of the servers, and what they lack.

mod clock;
mod connection;
mod finding;
mod health;
mod rights;
mod server;
mod stems;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use redkit_core::{Client, ClientConfig};
use serde::Serialize;

use self::finding::{Finding, Severity};
use crate::args::Common;
use crate::connect;
use crate::failure::Failure;
use crate::output;

const HELP: &str = "\
It connects as the programs do, asks the servers about themselves, writes two small keys of its own
(`<namespace>:monitor:health:...`, which live for a minute), and changes nothing else.

Checks: connection, transport, version, ping, latency, clock, clocks, set_get_delete, write, script, pubsub,
rights, memory, maxmemory, eviction, durability, persistence, replication, replicas, clients, cluster, slots, quorum.

Examples:
  REDIS_URL=redis://localhost redkit doctor
  redkit doctor --for cache             what a server for caches alone needs: there eviction is right
  redkit --json doctor | jq '.findings[] | select(.severity == \"error\")'

Exit status:
  0   nothing has to be done
  1   there are warnings
  2   there are errors, or the server could not be looked at";

/// Looks at what the patterns need of the servers: each finding with its cause and remedy
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct DoctorArgs {
    /// The patterns that the servers are for, with commas between. All of them by default
    #[arg(
        long = "for",
        value_name = "PATTERNS",
        value_enum,
        value_delimiter = ','
    )]
    needs: Vec<Need>,
}

/// A pattern, by what it needs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// Entries that may be lost
    Cache,
    /// Changes that are queued for a database
    WriteBehind,
    /// Hashes, lists, sets and counters of the program's own
    Collections,
    /// Locks, semaphores, latches, elections
    Lock,
    /// Rate limits
    Ratelimit,
    /// Sessions
    Session,
    /// Channels, inboxes
    Channel,
    /// Topics
    Topic,
}

impl Need {
    fn word(self) -> &'static str {
        match self {
            Need::Cache => "cache",
            Need::WriteBehind => "write-behind",
            Need::Collections => "collections",
            Need::Lock => "lock",
            Need::Ratelimit => "ratelimit",
            Need::Session => "session",
            Need::Channel => "channel",
            Need::Topic => "topic",
        }
    }

    /// Whether it has keys without a time to live, which nothing brings back.
    fn is_durable(self) -> bool {
        matches!(self, Need::WriteBehind | Need::Collections | Need::Topic)
    }

    /// Whether a key of it that is deleted before its time breaks a promise.
    fn promises_its_keys(self) -> bool {
        self != Need::Cache
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    target: String,
    severity: Severity,
    exit_code: u8,
    findings: Vec<Finding>,
}

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn run(common: &Common, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let config = connect::config(common)?;
    let needs = match args.needs.is_empty() {
        true => Need::value_variants(),
        false => &args.needs,
    };
    let target = connect::target(&config);
    let mut findings = connection::transport(&config);
    let patience = common.timeout.unwrap_or(Duration::from_secs(2));
    match tokio::time::timeout(LIMIT, examine(config, needs, patience)).await {
        Ok(found) => findings.extend(found),
        Err(_) => findings.push(Finding::error(
            "connection",
            format!("the servers could not be looked at within {LIMIT:?}"),
            "look at their load and at the network between",
        )),
    }
    for finding in &mut findings {
        finding.found = connect::without_secrets(&finding.found);
    }
    let severity = findings.iter().map(|finding| finding.severity).max();
    let severity = severity.unwrap_or(Severity::Ok);
    let report = Report {
        target,
        severity,
        exit_code: severity.exit_code(),
        findings,
    };
    match common.json {
        true => output::json(&report)?,
        false => print(&report)?,
    }
    Ok(ExitCode::from(report.exit_code))
}

async fn examine(config: ClientConfig, needs: &[Need], patience: Duration) -> Vec<Finding> {
    let client = match Client::connect(config).await {
        Ok(client) => client,
        Err(error) => return vec![connection::failed(&error)],
    };
    let (health, servers, clocks, rights) = tokio::join!(
        health::look(&client, patience),
        server::look(&client, needs, patience),
        clock::look(&client, patience),
        rights::look(&client, needs, patience),
    );
    let mut findings = vec![Finding::ok("connection", connection::summary(&client))];
    let silent = health.silent_servers();
    findings.extend(health.findings);
    // What does not answer was named once.
    let others = servers.into_iter().chain(clocks).chain(rights);
    let answers = |finding: &Finding| {
        let server = finding.server.as_ref();
        server.is_none_or(|server| !silent.contains(server))
    };
    findings.extend(others.filter(answers));
    client.shutdown().await;
    findings
}

fn print(report: &Report) -> Result<(), Failure> {
    output::line(&report.target)?;
    let mut troubles: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Ok)
        .collect();
    troubles.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &troubles {
        let server = finding
            .server
            .as_deref()
            .map(|server| format!(" at {server}"));
        let word = finding.severity.word();
        output::line(&format!(
            "\n{word:<8} {}{}: {}",
            finding.check,
            server.unwrap_or_default(),
            finding.found
        ))?;
        if !finding.patterns.is_empty() {
            output::line(&format!(
                "         concerns: {}",
                finding.patterns.join(", ")
            ))?;
        }
        if let Some(remedy) = &finding.remedy {
            output::line(&format!("         remedy: {remedy}"))?;
        }
    }
    let well: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Ok)
        .map(|finding| match finding.found.as_str() {
            "" => finding.check.to_owned(),
            found => format!("{} ({found})", finding.check),
        })
        .collect();
    if !well.is_empty() {
        output::line(&format!("\nok       {}", well.join(", ")))?;
    }
    let count = |severity| {
        let found = report.findings.iter();
        found.filter(|finding| finding.severity == severity).count()
    };
    output::line(&format!(
        "\n{} errors, {} warnings",
        count(Severity::Error),
        count(Severity::Warning)
    ))
}
