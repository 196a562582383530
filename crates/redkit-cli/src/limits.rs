//! `redkit limits`: what is used up of rate limits, and giving it back.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::future::try_join_all;
use redkit_core::{Client, Command, Key, PatternKey};
use redkit_ratelimit::{Algorithm, Policy, Quota, RateLimiter, RateLimiterBuilder};
use serde::Serialize;

use crate::args::{Common, Consent};
use crate::confirm::confirm;
use crate::connect;
use crate::failure::Failure;
use crate::format;
use crate::names::{digest, scan};
use crate::output::{self, Table};

const HELP: &str = "\
A limit is named as in its keys: by the limiter's name, or `limiter..policy` where a policy has a name of its own.
How much it allows is the programs' setting and does not stand on the server.

Examples:
  redkit limits list
  redkit limits list api --limit 20
  redkit limits inspect api alice
  redkit limits inspect api alice --quota 100/1m --burst 20
  redkit limits inspect search alice --quota 100/1m --slices 60
  redkit limits reset api alice --yes";

/// Lists what is used up of rate limits, and gives a key its units back
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    task: LimitsTask,
}

#[derive(Debug, Subcommand)]
enum LimitsTask {
    /// Lists the keys that have used anything up, the most used first. It goes through all keys of the servers
    ///
    /// Of gcra and leaky limits, which drain all the time, those come first that take the longest to drain.
    List {
        /// Of this limit only
        name: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Shows one key of a limit
    Inspect {
        #[command(flatten)]
        of: Owner,
        /// What the programs allow, such as 100/1m: then it says what is left, and when there is more
        #[arg(long, value_name = "UNITS/TIME", value_parser = quota)]
        quota: Option<Quota>,
        /// How many at once, of a gcra or leaky limit
        #[arg(long, requires = "quota")]
        burst: Option<u64>,
        /// In how many slices the programs count, of a bucketed limit
        #[arg(long, requires = "quota", default_value_t = 10)]
        slices: u32,
        /// How long the programs let calls wait for their turn, of a leaky limit, such as 10s
        #[arg(long, requires = "quota", value_parser = humantime::parse_duration, default_value = "0s")]
        max_wait: Duration,
    },
    /// Gives a key all its units back, and wakes the first waiter
    ///
    /// Programs with a deny cache go on denying for as long as they had told the caller to wait. Places of a
    /// concurrency limit are leases of the programs that hold them, and stay.
    Reset {
        #[command(flatten)]
        of: Owner,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Args)]
struct Owner {
    /// The limit
    name: String,
    /// Whose units: the key that the programs give
    key: String,
    /// The tag that its keys share (`RateLimiter::tagged`), if any
    #[arg(long)]
    tag: Option<String>,
}

fn quota(text: &str) -> Result<Quota, String> {
    let wrong = || "write units and time, such as 100/1m".to_owned();
    let (units, time) = text.split_once('/').ok_or_else(wrong)?;
    let units = units.trim().parse().map_err(|_| wrong())?;
    let time = humantime::parse_duration(time.trim()).map_err(|_| wrong())?;
    Ok(Quota::per(units, time))
}

/// A row of `--json`: see `docs/cli.md`.
#[derive(Debug, Serialize)]
struct Row {
    limit: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    algorithm: &'static str,
    /// Units, or places that are held; absent where they drain all the time (gcra, leaky).
    used: Option<u64>,
    /// When all of it has come back if nothing more is taken.
    resets_in_seconds: Option<f64>,
}

impl Row {
    fn most_used_first(&self, other: &Self) -> std::cmp::Ordering {
        let longest = |row: &Self| row.resets_in_seconds.unwrap_or(f64::INFINITY);
        let by_use = other.used.cmp(&self.used);
        let by_time = longest(other).total_cmp(&longest(self));
        let mine = (&self.limit, &self.key, &self.tag);
        let by_name = mine.cmp(&(&other.limit, &other.key, &other.tag));
        by_use.then(by_time).then(by_name)
    }
}

/// The words in keys, and what stands there.
const ALGORITHMS: [&str; 7] = [
    "fixed",
    "counter",
    "log",
    "bucketed",
    "gcra",
    "leaky",
    "concurrency",
];

pub(crate) async fn run(common: &Common, args: LimitsArgs) -> Result<ExitCode, Failure> {
    let client = connect::client(common).await?;
    match args.task {
        LimitsTask::List { name, limit } => {
            let (rows, left_out) = list(&client, name.as_deref(), limit).await?;
            match common.json {
                true => output::json(
                    &serde_json::json!({ "limits": rows, "is_complete": left_out == 0 }),
                )?,
                false => {
                    print(&rows, "nothing is used up")?;
                    output::left_out(left_out);
                }
            }
        }
        LimitsTask::Inspect {
            of,
            quota,
            burst,
            slices,
            max_wait,
        } => {
            let rows = rows_of(&client, &of).await?;
            let decision = match quota {
                Some(quota) => {
                    let quota = burst.map_or(quota, |burst| quota.burst(burst));
                    let counted = Counted { slices, max_wait };
                    Some(peek(&client, &of, &rows, quota, counted).await?)
                }
                None => None,
            };
            match (common.json, &decision) {
                (true, _) => {
                    output::json(&serde_json::json!({ "limits": rows, "decision": decision }))?
                }
                (false, None) => print(&rows, "nothing is used up")?,
                (false, Some(decision)) => {
                    print(&rows, "nothing is used up")?;
                    output::line(&decision.to_text())?;
                }
            }
        }
        LimitsTask::Reset { of, consent } => reset(common, &client, &of, consent).await?,
    }
    client.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// How many keys are looked at together.
const TOGETHER: usize = 50;

/// The `limit` most used, and how many others there are. Of the others no more is held than a number each.
async fn list(
    client: &Client,
    name: Option<&str>,
    limit: usize,
) -> Result<(Vec<Row>, usize), Failure> {
    let mut keys = scan(client, "ratelimit", name);
    let (mut seen, mut some) = (BTreeSet::new(), Vec::with_capacity(TOGETHER));
    let (mut rows, mut all) = (Vec::new(), 0);
    loop {
        let key = keys.next().await.transpose()?;
        let is_last = key.is_none();
        let key = key.map(|key| client.key(key));
        let found = key.and_then(|key| Found::of(&client.parse_key(key.as_bytes())?));
        some.extend(found.filter(|found| seen.insert(digest(found))));
        if some.len() < TOGETHER && !is_last {
            continue;
        }
        let looked = some.iter().map(|found| {
            look(
                client,
                &found.name,
                &found.user,
                found.tag.as_deref(),
                found.algorithm,
            )
        });
        let looked = try_join_all(looked).await?.into_iter().flatten();
        let before = rows.len();
        rows.extend(looked);
        all += rows.len() - before;
        some.clear();
        // Never many more than are shown.
        rows.sort_by(Row::most_used_first);
        rows.truncate(limit);
        if is_last {
            let left_out = all - rows.len();
            return Ok((rows, left_out));
        }
    }
}

/// A key in which a limit counts.
#[derive(Hash)]
struct Found {
    name: String,
    user: Vec<u8>,
    tag: Option<Vec<u8>>,
    algorithm: &'static str,
}

impl Found {
    fn of(key: &PatternKey<'_>) -> Option<Self> {
        let role = ALGORITHMS.iter().find(|word| Some(**word) == key.role);
        let (user, tag) = match &key.tagged {
            Some(user) => (user.clone(), Some(key.user_key.clone())),
            None => (key.user_key.clone(), None),
        };
        Some(Self {
            name: key.name.to_owned(),
            user,
            tag,
            algorithm: role.filter(|_| key.pattern == "ratelimit")?,
        })
    }
}

async fn rows_of(client: &Client, of: &Owner) -> Result<Vec<Row>, Failure> {
    let tag = of.tag.as_deref().map(str::as_bytes);
    let looked = ALGORITHMS
        .iter()
        .map(|algorithm| look(client, &of.name, of.key.as_bytes(), tag, algorithm));
    Ok(try_join_all(looked).await?.into_iter().flatten().collect())
}

/// The key in which an algorithm counts.
fn key_of(
    client: &Client,
    name: &str,
    user: &[u8],
    tag: Option<&[u8]>,
    algorithm: &'static str,
) -> Result<Key, Failure> {
    let keyspace = client.keyspace("ratelimit", name)?;
    Ok(match tag {
        Some(tag) => keyspace.tagged_key(tag, algorithm, user),
        None => keyspace.role_key(user, algorithm),
    })
}

/// What stands at the key of an algorithm; `None` when nothing does.
async fn look(
    client: &Client,
    name: &str,
    user: &[u8],
    tag: Option<&[u8]>,
    algorithm: &'static str,
) -> Result<Option<Row>, Failure> {
    let key = key_of(client, name, user, tag, algorithm)?;
    let left: i64 = client.call(Command::new("PTTL").key(&key)).await?;
    if left == -2 {
        return Ok(None);
    }
    Ok(Some(Row {
        limit: name.to_owned(),
        key: format::text(user),
        tag: tag.map(format::text),
        algorithm,
        used: used(client, &key, algorithm).await?,
        resets_in_seconds: u64::try_from(left)
            .ok()
            .map(|millis| format::seconds(Duration::from_millis(millis))),
    }))
}

/// The units in use, as `docs/keyspace.md` says where they stand.
async fn used(client: &Client, key: &Key, algorithm: &str) -> Result<Option<u64>, Failure> {
    let field = |name: &'static str| Command::new("HGET").key(key).arg(name);
    Ok(match algorithm {
        "fixed" => client.call(field("n")).await?,
        "counter" => client.call(field("c")).await?,
        "bucketed" => client.call(field("s")).await?,
        "log" => client.call(Command::new("LLEN").key(key)).await?,
        "concurrency" => {
            let (seconds, micros): (u64, u64) = client.call(Command::new("TIME")).await?;
            let now = seconds * 1_000_000 + micros;
            let live = Command::new("ZCOUNT")
                .key(key)
                .arg(format!("({now}"))
                .arg("+inf");
            client.call(live).await?
        }
        _ => None,
    })
}

#[derive(Debug, Serialize)]
struct DecisionRow {
    is_allowed: bool,
    limit: u64,
    remaining: u64,
    reset_after_seconds: f64,
    retry_after_seconds: f64,
}

impl DecisionRow {
    fn to_text(&self) -> String {
        let seconds = |seconds: f64| {
            let time = Duration::try_from_secs_f64(seconds);
            format::duration(time.unwrap_or_default())
        };
        match self.is_allowed {
            true => format!(
                "{} of {} are left; all are back in {}",
                self.remaining,
                self.limit,
                seconds(self.reset_after_seconds)
            ),
            false => format!(
                "denied: {} of {} are left; the next call may go in {}",
                self.remaining,
                self.limit,
                seconds(self.retry_after_seconds)
            ),
        }
    }
}

/// The limiter to which a limit of this name belongs, with this policy for it.
fn limiter(client: &Client, name: &str, policy: Policy) -> RateLimiterBuilder {
    match name.split_once("..") {
        Some((limiter, of_policy)) => {
            RateLimiter::builder(client, limiter).policy(policy.named(of_policy))
        }
        None => RateLimiter::builder(client, name).policy(policy),
    }
}

/// What the next call would be told.
async fn peek(
    client: &Client,
    of: &Owner,
    rows: &[Row],
    quota: Quota,
    counted: Counted,
) -> Result<DecisionRow, Failure> {
    let algorithms: Vec<_> = rows
        .iter()
        .filter_map(|row| counted.algorithm(row.algorithm))
        .collect();
    let algorithm = match algorithms.as_slice() {
        [one] => *one,
        // Nothing is used up: whichever it is, all is left.
        [] => Algorithm::Gcra,
        _ => {
            return Err(Failure::usage(
                "the key has units of several algorithms, and the quota is of one",
                "inspect the limits of the policies one by one (`limiter..policy`)",
            ));
        }
    };
    let limiter = limiter(client, &of.name, Policy::new(algorithm, quota))
        .decision_timeout(Duration::from_secs(1))
        .build()?;
    // Whole µs, rounded up as the programs do it.
    let window = quota.window().as_nanos().div_ceil(1000);
    let units = match algorithm {
        Algorithm::SlidingCounter => Some(("counter", window, 2)),
        Algorithm::Bucketed { slices } => {
            let slice = window.div_ceil(u128::from(slices.max(1)));
            Some(("bucketed", slice, slices.saturating_add(1)))
        }
        _ => None,
    };
    if let (Some((word, unit, many)), false) = (units, algorithms.is_empty()) {
        check_index(client, of, word, unit, many).await?;
    }
    let decision = match &of.tag {
        Some(tag) => limiter.tagged(tag.as_str()).peek(of.key.as_str()).await?,
        None => limiter.peek(of.key.as_str()).await?,
    };
    Ok(DecisionRow {
        is_allowed: decision.is_allowed(),
        limit: decision.limit(),
        remaining: decision.remaining(),
        reset_after_seconds: format::seconds(decision.reset_after()),
        retry_after_seconds: format::seconds(decision.retry_after()),
    })
}

/// How the programs count, beside their quota.
#[derive(Debug, Clone, Copy)]
struct Counted {
    slices: u32,
    max_wait: Duration,
}

impl Counted {
    /// For what depends on neither.
    const ANYHOW: Self = Self {
        slices: 10,
        max_wait: Duration::ZERO,
    };

    fn algorithm(self, word: &str) -> Option<Algorithm> {
        Some(match word {
            "fixed" => Algorithm::FixedWindow,
            "counter" => Algorithm::SlidingCounter,
            "log" => Algorithm::SlidingLog,
            "bucketed" => Algorithm::Bucketed {
                slices: self.slices,
            },
            "gcra" => Algorithm::Gcra,
            "leaky" => Algorithm::Leaky {
                max_wait: self.max_wait,
            },
            _ => return None,
        })
    }
}

/// Refuses windows or slices of another length than the programs': these are numbered since 1970, and a key
/// lives for `many` of them. `unit` is their length in µs.
async fn check_index(
    client: &Client,
    of: &Owner,
    word: &'static str,
    unit: u128,
    many: u32,
) -> Result<(), Failure> {
    let tag = of.tag.as_deref().map(str::as_bytes);
    let key = key_of(client, &of.name, of.key.as_bytes(), tag, word)?;
    let stored: Option<u64> = client.call(Command::new("HGET").key(&key).arg("i")).await?;
    let (seconds, micros): (u64, u64) = client.call(Command::new("TIME")).await?;
    let now = u128::from(seconds) * 1_000_000 + u128::from(micros);
    let newest = now / unit.max(1) + 1;
    let oldest = newest.saturating_sub(u128::from(many) + 2);
    match stored.map(u128::from) {
        Some(index) if !(oldest..=newest).contains(&index) => Err(Failure::usage(
            format!(
                "the programs count {} in windows of another length",
                of.name
            ),
            "give the time of --quota, and --slices of a bucketed limit, as the programs have them",
        )),
        _ => Ok(()),
    }
}

async fn reset(
    common: &Common,
    client: &Client,
    of: &Owner,
    consent: Consent,
) -> Result<(), Failure> {
    let rows = rows_of(client, of).await?;
    let algorithms: Vec<_> = rows
        .iter()
        .filter_map(|row| Counted::ANYHOW.algorithm(row.algorithm))
        .collect();
    if algorithms.is_empty() {
        let cause = match rows.is_empty() {
            true => format!("nothing is used up of {} by this key", of.name),
            false => {
                "its places are held by programs, and are no units to be given back".to_owned()
            }
        };
        return Err(Failure::new(
            cause,
            "see `redkit limits list` for the names and keys there are, and --namespace",
        ));
    }
    let shown = format::printable(&of.key);
    confirm(
        consent,
        &format!("Give {shown} all units of {} back", of.name),
    )?;
    for algorithm in &algorithms {
        // The quota does not matter for what is forgotten.
        let policy = Policy::new(*algorithm, Quota::per_second(1));
        let limiter = limiter(client, &of.name, policy).build()?;
        match &of.tag {
            Some(tag) => limiter.tagged(tag.as_str()).reset(of.key.as_str()).await?,
            None => limiter.reset(of.key.as_str()).await?,
        }
    }
    match common.json {
        true => output::json(&serde_json::json!({ "reset": rows.len() })),
        false => output::line(&format!("{shown} has all units of {} again", of.name)),
    }
}

fn print(rows: &[Row], none: &str) -> Result<(), Failure> {
    let mut table = Table::new(&["limit", "key", "tag", "algorithm", "used", "all back in"]);
    for row in rows {
        let left = row.resets_in_seconds.map(|seconds| {
            let time = Duration::try_from_secs_f64(seconds);
            format::duration(time.unwrap_or_default())
        });
        table.row([
            row.limit.clone(),
            row.key.clone(),
            row.tag.clone().unwrap_or_default(),
            row.algorithm.to_owned(),
            row.used.map(|used| used.to_string()).unwrap_or_default(),
            left.unwrap_or_else(|| "never".to_owned()),
        ]);
    }
    table.print(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read() {
        assert_eq!(
            quota("100/1m").unwrap(),
            Quota::per(100, Duration::from_secs(60))
        );
        for wrong in ["", "100", "1m/100", "x/1s", "5/", "/1s"] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
    }
}
