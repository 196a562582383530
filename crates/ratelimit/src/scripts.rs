//! The scripts, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each part does.

use std::time::Duration;

use redkit_core::{Client, Error, Invocation, Key, Script};
use smallvec::SmallVec;

use crate::plan::{Kind, Plan};

/// A script from its parts.
macro_rules! script {
    ($($part:literal),*) => {
        Script::new(concat!($(include_str!(concat!("scripts/", $part, ".lua")), "\n"),*))
    };
}

/// The script of one algorithm: its own part, and what all of them end with.
macro_rules! single {
    ($word:literal) => {
        Script::new(concat!(
            include_str!("scripts/clock.lua"),
            include_str!(concat!("scripts/", $word, ".lua")),
            "local look, take = look_",
            $word,
            ", take_",
            $word,
            "\n",
            include_str!("scripts/single.lua"),
        ))
    };
}

static FIXED: Script = single!("fixed");
static COUNTER: Script = single!("counter");
static LOG: Script = single!("log");
static BUCKETED: Script = single!("bucketed");
static GCRA: Script = single!("gcra");
static TOGETHER: Script = script!(
    "clock",
    "fixed",
    "counter",
    "log",
    "bucketed",
    "gcra",
    "concurrency",
    "several",
    "together"
);
static LINE: Script = script!(
    "clock",
    "fixed",
    "counter",
    "log",
    "bucketed",
    "gcra",
    "concurrency",
    "several",
    "line"
);
static REFUND: Script = script!(
    "clock", "fixed", "counter", "log", "bucketed", "gcra", "refund"
);
static RENEW: Script = script!("clock", "concurrency", "renew");

/// What one call of a script asks of one limit.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) key: Key,
    pub(crate) what: What,
}

/// Units of a quota, or a lease.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Units { plan: Plan, cost: u64 },
    Lease { limit: u64, lease: u64, id: Id },
}

/// A name for a lease, a place in line or a receipt that nothing else has: 128 random bits.
pub(crate) type Id = u128;

/// What a script says of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) allowed: bool,
    /// Units left; when allowed, after this call.
    pub(crate) left: u64,
    /// Until all units are back.
    pub(crate) reset: Duration,
    /// Until it would be allowed; when allowed, until it may go.
    pub(crate) wait: Duration,
    pub(crate) mark: Mark,
}

/// Where in a limit's state a call's units are, to give them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark([i64; 3]);

/// Of most calls there is one limit.
pub(crate) type Saids = SmallVec<[Said; 1]>;

/// Decides one limit. `take` is false to look only.
pub(crate) async fn decide(
    client: &Client,
    key: &Key,
    plan: &Plan,
    cost: u64,
    take: bool,
) -> Result<Said, Error> {
    let script = match plan.kind {
        Kind::Fixed => &FIXED,
        Kind::Counter => &COUNTER,
        Kind::Log => &LOG,
        Kind::Bucketed => &BUCKETED,
        Kind::Gcra => &GCRA,
    };
    let call = script.invoke([key]).arg(u8::from(take)).arg(cost);
    let call = plan.parameters.iter().fold(call, |call, n| call.arg(*n));
    let reply: Vec<i64> = client.eval(call.idempotent(!take)).await?;
    Ok(Said::from_reply(&reply))
}

/// Decides several limits, all or nothing: whether all allow it, and what each says.
pub(crate) async fn decide_together(
    client: &Client,
    asks: &[Ask],
    take: bool,
) -> Result<(bool, Saids), Error> {
    let call = TOGETHER.invoke(asks.iter().map(|ask| &ask.key));
    let call = asks
        .iter()
        .fold(call.arg(u8::from(take)), |call, ask| ask.what.write(call));
    let reply: Vec<i64> = client.eval(call.idempotent(!take)).await?;
    let (head, said) = reply.split_at_checked(1).unwrap_or_default();
    Ok((head == [1], saids(said)))
}

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is through: units and leases are taken.
    Through,
    /// It has a place in line, with so many before it.
    Waiting(u64),
    /// It has none: it did not want to join, or would wait for too long. So many are in line.
    Apart(u64),
    /// It has none, because the line is full.
    Full,
}

/// One visit to the line.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) asks: &'a [Ask],
    pub(crate) line: &'a Key,
    pub(crate) beats: &'a Key,
    /// `None` passes when nobody waits, and does not join.
    pub(crate) id: Option<Id>,
    /// How long it will wait at most.
    pub(crate) patience: Duration,
    /// How many may wait.
    pub(crate) places: u64,
}

/// For how long a waiter is believed to be alive after its last visit.
pub(crate) const ALIVE: Duration = Duration::from_secs(3);

/// What came of it: the standing, when to come again, and what each limit says.
pub(crate) async fn visit(
    client: &Client,
    visit: &Visit<'_>,
) -> Result<(Standing, Duration, Saids), Error> {
    let keys: SmallVec<[&Key; 4]> = visit
        .asks
        .iter()
        .map(|ask| &ask.key)
        .chain([visit.line, visit.beats])
        .collect();
    let id = visit.id.map(text).unwrap_or_default();
    let call = LINE
        .invoke(keys)
        .arg(id)
        .arg(micros(ALIVE))
        .arg(micros(visit.patience))
        .arg(visit.places);
    let call = visit
        .asks
        .iter()
        .fold(call, |call, ask| ask.what.write(call));
    let reply: Vec<i64> = client.eval(call).await?;
    let (head, said) = reply.split_at_checked(3).unwrap_or_default();
    let (standing, wait) = match *head {
        [1, _, _] => (Standing::Through, Duration::ZERO),
        [0, wait, before] => (Standing::Waiting(count(before)), duration(wait)),
        [3, wait, _] => (Standing::Full, duration(wait)),
        [_, wait, before] => (Standing::Apart(count(before)), duration(wait)),
        _ => (Standing::Apart(0), Duration::ZERO),
    };
    Ok((standing, wait, saids(said)))
}

/// What a refund is about.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) key: Key,
    pub(crate) refunds: Key,
    pub(crate) plan: Plan,
    pub(crate) cost: u64,
    pub(crate) mark: Mark,
}

/// Gives back what a call took, once; gives how many units that was.
pub(crate) async fn refund(client: &Client, id: Id, taken: &Taken) -> Result<u64, Error> {
    let call = REFUND
        .invoke([&taken.key, &taken.refunds])
        .arg(text(id))
        .arg(taken.plan.life);
    let call = taken.mark.0.iter().fold(call, |call, n| call.arg(*n));
    let what = What::Units {
        plan: taken.plan.with_patience(),
        cost: taken.cost,
    };
    client.eval(what.write(call).idempotent(true)).await
}

/// Renews leases under one key; gives for each whether it still stood.
pub(crate) async fn renew(
    client: &Client,
    key: &Key,
    lease: u64,
    ids: &[Id],
) -> Result<Vec<bool>, Error> {
    let call = RENEW.invoke([key]).arg(lease);
    let call = ids.iter().fold(call, |call, id| call.arg(text(*id)));
    // Renewed twice is as good as once.
    client.eval(call.idempotent(true)).await
}

/// A new name for a place in line, of a caller who asks for so many units of each limit: see
/// `line.lua`. There are never more units than 32 bits hold.
pub(crate) fn place_id(cost: u64) -> Id {
    const REST: u32 = 96;
    let random: Id = rand::random();
    (Id::from(cost) << REST) | (random & ((1 << REST) - 1))
}

/// An id as scripts and keys hold it.
pub(crate) fn text(id: Id) -> String {
    format!("{id:032x}")
}

impl What {
    pub(crate) fn cost(&self) -> u64 {
        match self {
            What::Units { cost, .. } => *cost,
            What::Lease { .. } => 1,
        }
    }

    /// The seven fields of a limit: see `several.lua`.
    fn write(&self, call: Invocation) -> Invocation {
        match self {
            What::Units { plan, cost } => {
                let call = call.arg(plan.kind.word()).arg(*cost);
                let call = plan.parameters.iter().fold(call, |call, n| call.arg(*n));
                call.arg("")
            }
            What::Lease { limit, lease, id } => call
                .arg("concurrency")
                .arg(1)
                .arg(*limit)
                .arg(*lease)
                .arg(text(*id))
                .arg("")
                .arg(""),
        }
    }
}

impl Said {
    fn from_reply(reply: &[i64]) -> Self {
        let at = |index| reply.get(index).copied().unwrap_or_default();
        Self {
            allowed: at(0) == 1,
            left: count(at(1)),
            reset: duration(at(2)),
            wait: duration(at(3)),
            mark: Mark([at(4), at(5), at(6)]),
        }
    }
}

fn saids(reply: &[i64]) -> Saids {
    reply.chunks_exact(7).map(Said::from_reply).collect()
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(count(micros))
}

/// In µs, as far as scripts count exactly.
pub(crate) fn micros(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 51;
    u64::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}
