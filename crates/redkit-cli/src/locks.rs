//! `redkit locks`: locks, read/write locks and semaphores of all managers.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use futures_util::future::try_join_all;
use redkit_core::Client;
use redkit_lock::{Fence, Holder, LockManager, Semaphore};
use serde::Serialize;

use crate::args::{Common, Consent};
use crate::confirm::confirm;
use crate::connect;
use crate::failure::Failure;
use crate::format;
use crate::names::each_key;
use crate::output::{self, Table};

const HELP: &str = "\
The leader of an election is the holder of its lock.

Examples:
  redkit locks list
  redkit locks list orders
  redkit locks inspect orders order-7
  redkit locks force-release orders order-7 --fence 1764000000000000";

/// Lists locks with their holders, and takes one away from a holder that will not give it back
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct LocksArgs {
    #[command(subcommand)]
    task: LocksTask,
}

#[derive(Debug, Subcommand)]
enum LocksTask {
    /// Lists what is held. It goes through all keys of the servers
    List {
        /// Of this manager, read/write lock or semaphore only
        name: Option<String>,
        /// At most so many of each kind
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Shows one
    Inspect {
        /// The manager's name
        name: String,
        /// The key
        key: String,
        /// What it is
        #[arg(long, value_enum, default_value_t = Kind::Lock)]
        kind: Kind,
    },
    /// Takes a lock away from its holder and wakes the next waiter
    ///
    /// The holder learns of it at its next renewal, a third of the lock's time to live later at the latest. Until then
    /// both may work, and only storage that compares fences keeps them apart.
    ForceRelease {
        /// The manager's name
        name: String,
        /// The key
        key: String,
        /// The fence of the holder that is meant, as `list` shows it: a later holder keeps the lock
        #[arg(long)]
        fence: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What has holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One holder
    Lock,
    /// Many readers or one writer
    Rwlock,
    /// Permits
    Semaphore,
}

/// A row of `--json`: see `docs/cli.md`.
#[derive(Debug, Serialize)]
struct Row {
    kind: Kind,
    name: String,
    key: String,
    holder: Option<HolderRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_writers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiters: Option<u32>,
}

#[derive(Debug, Serialize)]
struct HolderRow {
    label: Option<String>,
    host: String,
    process: u32,
    fence: u64,
    since: String,
    held_seconds: f64,
    /// Absent for a lock that never runs out, because its time to live was taken away.
    expires_in_seconds: Option<f64>,
    /// Given back, and kept from others until it runs out (`hold_at_least`).
    is_resting: bool,
}

pub(crate) async fn run(common: &Common, args: LocksArgs) -> Result<ExitCode, Failure> {
    match args.task {
        LocksTask::List { name, limit } => {
            let client = connect::client(common).await?;
            let mut rows = Vec::new();
            for kind in Kind::value_variants() {
                rows.extend(list(&client, *kind, name.as_deref(), limit).await?);
            }
            client.shutdown().await;
            match common.json {
                true => output::json(&serde_json::json!({ "locks": rows }))?,
                false => print(&rows, "nothing is locked")?,
            }
        }
        LocksTask::Inspect { name, key, kind } => {
            let client = connect::client(common).await?;
            let row = look(&client, kind, &name, key.as_bytes()).await?;
            client.shutdown().await;
            match common.json {
                true => output::json(&row)?,
                false => print(std::slice::from_ref(&row), "")?,
            }
        }
        LocksTask::ForceRelease {
            name,
            key,
            fence,
            consent,
        } => force_release(common, &name, &key, fence, consent).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn force_release(
    common: &Common,
    name: &str,
    key: &str,
    fence: u64,
    consent: Consent,
) -> Result<(), Failure> {
    let client = connect::client(common).await?;
    let locks = LockManager::builder(&client, name).build()?;
    let holder = locks.inspect(key).await?;
    let Some(holder) = holder.filter(|holder| holder.fence.get() == fence) else {
        return Err(not_held(&locks, key, fence).await);
    };
    let shown = format::printable(&holder.to_string());
    confirm(
        consent,
        &format!(
            "Take the lock {name} {} away from {shown}",
            format::printable(key)
        ),
    )?;
    if !locks.force_release(key, Fence::new(fence)).await? {
        return Err(not_held(&locks, key, fence).await);
    }
    client.shutdown().await;
    match common.json {
        true => output::json(&serde_json::json!({ "released": true, "fence": fence })),
        false => output::line(&format!("taken away from {shown}")),
    }
}

async fn not_held(locks: &LockManager, key: &str, fence: u64) -> Failure {
    let now = match locks.inspect(key).await {
        Ok(Some(holder)) => format!("it is held by {}", format::printable(&holder.to_string())),
        _ => "it is free".to_owned(),
    };
    Failure::new(
        format!("the lock is not held under fence {fence}: {now}"),
        "see `redkit locks list`; a newer holder is left alone unless its own fence is given",
    )
}

/// What is held of a kind.
async fn list(
    client: &Client,
    kind: Kind,
    name: Option<&str>,
    limit: usize,
) -> Result<Vec<Row>, Failure> {
    let (pattern, roles): (_, &[Option<&str>]) = match kind {
        Kind::Lock => ("lock", &[None]),
        Kind::Rwlock => ("rwlock", &[None, Some("readers"), Some("writers")]),
        Kind::Semaphore => ("semaphore", &[None]),
    };
    let mut found = BTreeSet::new();
    each_key(client, pattern, name, |key| {
        if roles.contains(&key.role) {
            found.insert((key.name.to_owned(), key.user_key.clone()));
        }
        found.len() < limit
    })
    .await?;
    let mut rows = Vec::new();
    let found: Vec<_> = found.into_iter().collect();
    for some in found.chunks(50) {
        let looked = some.iter().map(|(name, key)| look(client, kind, name, key));
        rows.extend(try_join_all(looked).await?);
    }
    rows.retain(Row::is_held);
    Ok(rows)
}

async fn look(client: &Client, kind: Kind, name: &str, key: &[u8]) -> Result<Row, Failure> {
    let mut row = Row {
        kind,
        name: name.to_owned(),
        key: format::text(key),
        holder: None,
        readers: None,
        waiting_writers: None,
        taken: None,
        grants: None,
        waiters: None,
    };
    match kind {
        Kind::Lock => {
            let locks = LockManager::builder(client, name).build()?;
            row.holder = locks.inspect(key).await?.map(HolderRow::new);
        }
        Kind::Rwlock => {
            let locks = LockManager::builder(client, name).build_read_write()?;
            let state = locks.inspect(key).await?;
            row.holder = state.writer.map(HolderRow::new);
            row.readers = Some(state.readers);
            row.waiting_writers = Some(state.waiting_writers);
        }
        Kind::Semaphore => {
            // How many there are is the programs' setting; how many are taken stands on the server.
            let semaphore = Semaphore::builder(client, name).permits(1).build()?;
            let state = semaphore.state(key).await?;
            row.taken = Some(state.taken);
            row.grants = Some(state.grants);
            row.waiters = Some(state.waiters);
        }
    }
    Ok(row)
}

impl Row {
    /// Whether it is held or waited for. It may have been given back since its key was seen.
    fn is_held(&self) -> bool {
        let counts = [
            self.readers,
            self.waiting_writers,
            self.taken.map(u64::from),
            self.waiters.map(u64::from),
        ];
        self.holder.is_some() || counts.into_iter().flatten().any(|count| count > 0)
    }
}

impl HolderRow {
    fn new(holder: Holder) -> Self {
        let held = holder.since.elapsed().unwrap_or_default();
        Self {
            label: holder.label.map(|label| format::printable(&label)),
            host: format::printable(&holder.host),
            process: holder.process,
            fence: holder.fence.get(),
            since: format::time(holder.since),
            held_seconds: format::seconds(held),
            expires_in_seconds: holder.expires_in.map(format::seconds),
            is_resting: holder.is_resting,
        }
    }
}

fn print(rows: &[Row], none: &str) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "kind",
        "name",
        "key",
        "holder",
        "fence",
        "held for",
        "expires in",
        "also",
    ]);
    for row in rows {
        let seconds = |seconds: f64| {
            let time = std::time::Duration::try_from_secs_f64(seconds);
            format::duration(time.unwrap_or_default())
        };
        let kind = match row.kind {
            Kind::Lock => "lock",
            Kind::Rwlock => "rwlock",
            Kind::Semaphore => "semaphore",
        };
        let holder = row.holder.as_ref();
        let who = holder.map(|holder| {
            let label = holder.label.as_deref().map(|label| format!("{label} on "));
            let rests = if holder.is_resting { ", resting" } else { "" };
            format!(
                "{}{} (process {}{rests})",
                label.unwrap_or_default(),
                holder.host,
                holder.process
            )
        });
        let also: Vec<_> = [
            row.readers.map(|count| format!("{count} readers")),
            row.waiting_writers
                .map(|count| format!("{count} writers wait")),
            row.taken.map(|count| format!("{count} permits taken")),
            row.grants.map(|count| format!("by {count} grants")),
            row.waiters.map(|count| format!("{count} waiters")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let free = if row.is_held() { "-" } else { "free" };
        table.row([
            kind.to_owned(),
            row.name.clone(),
            row.key.clone(),
            who.unwrap_or_else(|| free.to_owned()),
            holder
                .map(|holder| holder.fence.to_string())
                .unwrap_or_default(),
            holder
                .map(|holder| seconds(holder.held_seconds))
                .unwrap_or_default(),
            match holder.map(|holder| holder.expires_in_seconds) {
                Some(Some(left)) => seconds(left),
                Some(None) => "never".to_owned(),
                None => String::new(),
            },
            also.join(", "),
        ]);
    }
    table.print(none)
}
