//! `redkit topics`: how topics and their groups stand, their dead letters, and acting on them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use redkit_core::Client;
use redkit_pubsub::ItemId;
use redkit_pubsub::topic::{DeadLetter, GroupStats, Topic};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Common, Consent};
use crate::confirm::confirm;
use crate::connect;
use crate::failure::Failure;
use crate::format;
use crate::names::each_key;
use crate::output::{self, Table};

const HELP: &str = "\
Examples:
  redkit topics list
  redkit topics dead orders mail --payload
  redkit topics redrive orders mail --letter 0/1764428400000-0
  redkit topics redrive orders mail --all
  redkit topics pause orders mail";

/// Lists topics with their groups and dead letters, and publishes dead letters again
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    task: TopicsTask,
}

#[derive(Debug, Subcommand)]
enum TopicsTask {
    /// Lists topics and groups: what waits and for how long, what failed, and who works. It goes through all keys
    List {
        /// Of this topic only
        name: Option<String>,
    },
    /// Lists dead letters of a group, the oldest of each partition first
    Dead {
        #[command(flatten)]
        of: Group,
        /// At most so many of each partition
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Shows messages and headers too, which may hold personal data
        #[arg(long)]
        payload: bool,
    },
    /// Publishes dead letters again, for their group alone, with all attempts before them
    Redrive {
        #[command(flatten)]
        of: Group,
        /// All that are there
        #[arg(long, required_unless_present = "letter", conflicts_with = "letter")]
        all: bool,
        /// One, by partition and entry as `dead` shows them
        #[arg(long, value_name = "PARTITION/ENTRY", value_parser = letter)]
        letter: Option<(u32, ItemId)>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Deletes all dead letters of a group
    Discard {
        #[command(flatten)]
        of: Group,
        #[command(flatten)]
        consent: Consent,
    },
    /// Stops the deliveries to a group, in all processes
    Pause {
        #[command(flatten)]
        of: Group,
    },
    /// Goes on with the deliveries to a group
    Resume {
        #[command(flatten)]
        of: Group,
    },
}

#[derive(Debug, Args)]
struct Group {
    /// The topic
    name: String,
    /// The group of consumers
    group: String,
}

fn letter(text: &str) -> Result<(u32, ItemId), String> {
    let wrong = || "write partition and entry, such as 0/1764428400000-0".to_owned();
    let (partition, entry) = text.split_once('/').ok_or_else(wrong)?;
    let partition = partition.parse().map_err(|_| wrong())?;
    Ok((partition, entry.parse().map_err(|_| wrong())?))
}

/// A topic of `--json`: see `docs/cli.md`.
#[derive(Debug, Serialize)]
struct TopicRow {
    name: String,
    partitions: u32,
    groups: Vec<GroupRow>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum GroupRow {
    Read(Figures),
    /// Made by another program, with a name that no consumer of redkit's has.
    Foreign {
        name: String,
        error: String,
    },
}

#[derive(Debug, Serialize)]
struct Figures {
    name: String,
    length: u64,
    delayed: u64,
    /// Absent when the server does not know, after entries were deleted.
    lag: Option<u64>,
    pending: u64,
    in_flight: u64,
    retries: u64,
    dead: u64,
    oldest_pending_seconds: Option<f64>,
    live_workers: u64,
    is_paused: bool,
}

#[derive(Debug, Serialize)]
struct LetterRow {
    /// For `redrive --letter`.
    letter: String,
    id: String,
    key: String,
    reason: String,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
    /// Why the payload cannot be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_error: Option<String>,
}

pub(crate) async fn run(common: &Common, args: TopicsArgs) -> Result<ExitCode, Failure> {
    let client = connect::client(common).await?;
    match args.task {
        TopicsTask::List { name } => list(common, &client, name.as_deref()).await?,
        TopicsTask::Dead { of, limit, payload } => {
            dead(common, &client, &of, limit, payload).await?
        }
        TopicsTask::Redrive {
            of,
            letter,
            consent,
            all: _,
        } => redrive(common, &client, &of, letter, consent).await?,
        TopicsTask::Discard { of, consent } => discard(common, &client, &of, consent).await?,
        TopicsTask::Pause { of } => set_paused(common, &client, &of, true).await?,
        TopicsTask::Resume { of } => set_paused(common, &client, &of, false).await?,
    }
    client.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Topics, and how many partitions of each have ever been written to.
async fn partitions(client: &Client, name: Option<&str>) -> Result<BTreeMap<String, u32>, Failure> {
    let mut found = BTreeMap::new();
    each_key(client, "topic", name, |key| {
        // The tag is the topic's name and the partition's number.
        let tag = String::from_utf8_lossy(&key.user_key);
        if let Some(number) = tag
            .strip_prefix(key.name)
            .and_then(|rest| rest.strip_prefix('.'))
            && let Ok(number) = number.parse::<u32>()
        {
            let count: &mut u32 = found.entry(key.name.to_owned()).or_default();
            *count = (*count).max(number.saturating_add(1));
        }
        true
    })
    .await?;
    Ok(found)
}

/// A topic as its keys tell of it. Nothing is published through it.
async fn topic(client: &Client, name: &str) -> Result<Topic<Value>, Failure> {
    let found = partitions(client, Some(name)).await?;
    let Some(partitions) = found.get(name) else {
        return Err(Failure::new(
            format!("there is no topic {}", format::printable(name)),
            "see `redkit topics list` for the topics there are, and --namespace",
        ));
    };
    Ok(Topic::builder(client, name)
        .partitions(*partitions)
        .build()?)
}

/// The topic, if it has the group: a misspelt group would have nothing to do, and say that it was done.
async fn with_group(client: &Client, of: &Group) -> Result<Topic<Value>, Failure> {
    let topic = topic(client, &of.name).await?;
    let groups = topic.groups().await?;
    let is_known = groups.contains(&of.group);
    // A group that was deleted by hand has left its dead letters.
    if is_known || topic.dead_letters(of.group.as_str())?.count().await? > 0 {
        return Ok(topic);
    }
    let known = match groups.is_empty() {
        true => "it has none yet".to_owned(),
        false => format!("there are {}", format::printable(&groups.join(", "))),
    };
    Err(Failure::new(
        format!(
            "the topic {} has no group {}",
            format::printable(&of.name),
            format::printable(&of.group)
        ),
        known,
    ))
}

async fn list(common: &Common, client: &Client, name: Option<&str>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (name, partitions) in partitions(client, name).await? {
        let topic: Topic<Value> = Topic::builder(client, name.as_str())
            .partitions(partitions)
            .build()?;
        let mut groups = Vec::new();
        for group in topic.groups().await? {
            groups.push(match topic.stats(&group).await {
                Ok(stats) => GroupRow::Read(Figures::new(group, &stats)),
                Err(error @ redkit_pubsub::Error::Invalid { .. }) => GroupRow::Foreign {
                    error: error.to_string(),
                    name: group,
                },
                Err(error) => return Err(error.into()),
            });
        }
        rows.push(TopicRow {
            name,
            partitions,
            groups,
        });
    }
    if common.json {
        return output::json(&serde_json::json!({ "topics": rows }));
    }
    let mut table = Table::new(&[
        "topic",
        "group",
        "oldest pending",
        "lag",
        "pending",
        "retries",
        "dead",
        "workers",
        "length",
        "delayed",
        "state",
    ]);
    for row in &rows {
        if row.groups.is_empty() {
            table.row([row.name.clone(), "(no group)".to_owned()]);
        }
        for group in &row.groups {
            let group = match group {
                GroupRow::Read(figures) => figures,
                GroupRow::Foreign { name, .. } => {
                    let why = "(another program's: see --json)".to_owned();
                    table.row([row.name.clone(), format::printable(name), why]);
                    continue;
                }
            };
            let oldest = group.oldest_pending_seconds.map(|seconds| {
                let time = Duration::try_from_secs_f64(seconds);
                format::duration(time.unwrap_or_default())
            });
            table.row([
                row.name.clone(),
                format::printable(&group.name),
                oldest.unwrap_or_else(|| "-".to_owned()),
                group.lag.map_or("?".to_owned(), |lag| lag.to_string()),
                group.pending.to_string(),
                group.retries.to_string(),
                group.dead.to_string(),
                group.live_workers.to_string(),
                group.length.to_string(),
                group.delayed.to_string(),
                if group.is_paused { "paused" } else { "" }.to_owned(),
            ]);
        }
    }
    table.print("there are no topics")
}

async fn dead(
    common: &Common,
    client: &Client,
    of: &Group,
    limit: u32,
    payload: bool,
) -> Result<(), Failure> {
    let topic = with_group(client, of).await?;
    let letters = topic.dead_letters(of.group.as_str())?;
    let (count, list) = (letters.count().await?, letters.list(limit).await?);
    let rows: Vec<_> = list
        .into_iter()
        .map(|letter| LetterRow::new(letter, payload))
        .collect();
    if common.json {
        return output::json(&serde_json::json!({ "count": count, "letters": rows }));
    }
    let mut heads = vec!["letter", "id", "key", "attempts", "reason"];
    if payload {
        heads.extend(["headers", "message"]);
    }
    let mut table = Table::new(&heads);
    for row in rows {
        let mut cells = vec![
            row.letter,
            format::printable(&row.id),
            row.key,
            row.attempts.to_string(),
            format::cut(&row.reason, 80),
        ];
        if payload {
            let headers = row.headers.unwrap_or_default();
            let headers = headers
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            cells.push(format::printable(&headers.collect::<Vec<_>>().join(" ")));
            let message = match (row.payload, row.payload_error) {
                (Some(message), _) => message.to_string(),
                (None, error) => format!("({})", error.unwrap_or_default()),
            };
            cells.push(format::printable(&message));
        }
        table.row(cells);
    }
    table.print("there are no dead letters")
}

async fn redrive(
    common: &Common,
    client: &Client,
    of: &Group,
    letter: Option<(u32, ItemId)>,
    consent: Consent,
) -> Result<(), Failure> {
    let topic = with_group(client, of).await?;
    let letters = topic.dead_letters(of.group.as_str())?;
    let done = match letter {
        Some((partition, entry)) => match letters.redrive_entry(partition, entry).await? {
            true => 1,
            false => {
                return Err(Failure::new(
                    format!("there is no dead letter {partition}/{entry}"),
                    "see `redkit topics dead`; it may have been published again, or have run out",
                ));
            }
        },
        None => {
            let count = letters.count().await?;
            if count > 0 {
                confirm(
                    consent,
                    &format!("Publish {count} dead letters of {} again", of.group),
                )?;
            }
            letters.redrive_all().await?
        }
    };
    match common.json {
        true => output::json(&serde_json::json!({ "redriven": done })),
        false => output::line(&format!("{done} dead letters were published again")),
    }
}

async fn discard(
    common: &Common,
    client: &Client,
    of: &Group,
    consent: Consent,
) -> Result<(), Failure> {
    let topic = with_group(client, of).await?;
    let letters = topic.dead_letters(of.group.as_str())?;
    let count = letters.count().await?;
    if count > 0 {
        confirm(
            consent,
            &format!("Delete {count} dead letters of {} for ever", of.group),
        )?;
        letters.clear().await?;
    }
    match common.json {
        true => output::json(&serde_json::json!({ "discarded": count })),
        false => output::line(&format!("{count} dead letters were deleted")),
    }
}

async fn set_paused(
    common: &Common,
    client: &Client,
    of: &Group,
    paused: bool,
) -> Result<(), Failure> {
    let topic = with_group(client, of).await?;
    match paused {
        true => topic.pause(&of.group).await?,
        false => topic.resume(&of.group).await?,
    }
    match (common.json, paused) {
        (true, paused) => output::json(&serde_json::json!({ "is_paused": paused })),
        (false, true) => output::line("the group is paused; what is being handled is finished"),
        (false, false) => output::line("the group goes on"),
    }
}

impl Figures {
    fn new(name: String, stats: &GroupStats) -> Self {
        Self {
            name,
            length: stats.length,
            delayed: stats.delayed,
            lag: stats.lag,
            pending: stats.pending,
            in_flight: stats.in_flight,
            retries: stats.retries,
            dead: stats.dead,
            oldest_pending_seconds: stats.oldest_pending.map(format::seconds),
            live_workers: stats.live_workers,
            is_paused: stats.is_paused,
        }
    }
}

impl LetterRow {
    fn new(letter: DeadLetter<Value>, payload: bool) -> Self {
        let mut row = Self {
            letter: format!("{}/{}", letter.partition, letter.entry),
            id: letter.id,
            key: format::text(&letter.key),
            reason: format::printable(&letter.reason),
            attempts: letter.attempts,
            headers: None,
            payload: None,
            payload_error: None,
        };
        if payload {
            row.headers = Some(letter.headers);
            match letter.payload {
                Ok(message) => row.payload = Some(message),
                // Its own text names the key, and no part of the message.
                Err(error) => row.payload_error = Some(format::printable(&error.to_string())),
            }
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_partition_and_entry() {
        let (partition, entry) = letter("3/1764428400000-2").unwrap();
        assert_eq!(
            (partition, entry.to_string().as_str()),
            (3, "1764428400000-2")
        );
        for wrong in ["", "3", "1764428400000-2", "x/1-0", "3/1"] {
            assert!(letter(wrong).is_err(), "{wrong}");
        }
    }
}
