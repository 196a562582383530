//! The scripts, and one typed call for each: nothing else orders their arguments or reads their
//! replies. `src/scripts/*.lua` says what each part does.

use std::time::Duration;

use redkit_core::coordination::{WAITER_ALIVE, WaitQueue, lua};
use redkit_core::random::random;
use redkit_core::{Client, Error, Invocation, Key, Script};
use smallvec::SmallVec;

use crate::plan::Plan;
use crate::quota::Quota;

/// A part of the scripts, from its file.
macro_rules! part {
    ($word:literal) => {
        include_str!(concat!("scripts/", $word, ".lua"))
    };
}

/// The script of one algorithm: its own part, and what all of them end with.
macro_rules! single {
    ($word:literal) => {
        Script::of_parts(&[
            lua::CLOCK,
            part!($word),
            concat!("local look, take = look_", $word, ", take_", $word),
            part!("single"),
        ])
    };
}

/// The script that begins with all algorithms.
macro_rules! with_all {
    ($($part:expr),*) => {
        Script::of_parts(&[
            lua::CLOCK,
            part!("fixed"),
            part!("counter"),
            part!("log"),
            part!("bucketed"),
            part!("gcra"),
            $($part),*
        ])
    };
}

static FIXED: Script = single!("fixed");
static COUNTER: Script = single!("counter");
static LOG: Script = single!("log");
static BUCKETED: Script = single!("bucketed");
static GCRA: Script = single!("gcra");
static LIMIT_SET: Script = with_all!(
    part!("concurrency"),
    part!("several"),
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    part!("limit_set")
);
static ACQUIRE: Script = with_all!(
    part!("concurrency"),
    part!("several"),
    lua::WAKE_UP,
    lua::WAIT_QUEUE,
    part!("acquire")
);
static REFUND: Script = with_all!(lua::WAKE_UP, lua::WAIT_QUEUE, part!("refund"));
static RESET: Script =
    Script::of_parts(&[lua::CLOCK, lua::WAKE_UP, lua::WAIT_QUEUE, part!("reset")]);
static RENEW: Script = Script::of_parts(&[lua::CLOCK, part!("concurrency"), part!("renew")]);
static RELEASE: Script =
    Script::of_parts(&[lua::CLOCK, lua::WAKE_UP, lua::WAIT_QUEUE, part!("release")]);

/// The request of a call to one limit.
#[derive(Debug, Clone)]
pub(crate) struct LimitRequest {
    pub(crate) key: Key,
    pub(crate) plan: Plan,
    /// The quota that the plan was made from.
    pub(crate) quota: Quota,
    pub(crate) cost: u64,
    /// The name of the new lease, of a [concurrency](Plan::Concurrency) limit.
    pub(crate) lease_id: Option<Id>,
}

/// Of most calls there is one limit.
pub(crate) type LimitRequests = SmallVec<[LimitRequest; 1]>;

/// A name for a lease, a waiter or a receipt that nothing else has: 128 bits.
pub(crate) type Id = u128;

/// A script's reply on one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitReply {
    pub(crate) allowed: bool,
    /// Units left; when allowed, after this call.
    pub(crate) remaining: u64,
    /// Until all units are back.
    pub(crate) reset_after: Duration,
    /// Until the call would be allowed; when it is, until it may go.
    pub(crate) wait: Duration,
    pub(crate) mark: Mark,
}

/// Where in a limit's state a call's units are, to give them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark([i64; 3]);

pub(crate) type LimitReplies = SmallVec<[LimitReply; 1]>;

/// Decides one limit of units. `take` is false to look only.
pub(crate) async fn decide_one(
    client: &Client,
    request: &LimitRequest,
    take: bool,
) -> Result<LimitReply, Error> {
    let script = match request.plan {
        Plan::FixedWindow { .. } => &FIXED,
        Plan::SlidingCounter { .. } => &COUNTER,
        Plan::SlidingLog { .. } => &LOG,
        Plan::Bucketed { .. } => &BUCKETED,
        Plan::Rate { .. } => &GCRA,
        Plan::Concurrency { .. } => {
            let one = std::slice::from_ref(request);
            let all = decide_all(client, one, &[], take).await?;
            let reply = all.replies.first().copied();
            return Ok(reply.unwrap_or(LimitReply::read(&[])));
        }
    };
    let call = script.invoke([&request.key]).arg(u8::from(take));
    let parameters = request.plan.parameters();
    let call = parameters
        .iter()
        .fold(call.arg(request.cost), |call, number| call.arg(*number));
    let reply: Vec<i64> = client.eval(call.idempotent(!take)).await?;
    Ok(LimitReply::read(&reply))
}

/// The reply on several limits.
#[derive(Debug)]
pub(crate) struct SetReply {
    /// Whether the call as a whole is allowed.
    pub(crate) allowed: bool,
    /// Which of the queues has waiters, who go first.
    pub(crate) waited_for: Option<usize>,
    pub(crate) replies: LimitReplies,
}

/// Decides several limits, all or nothing. It takes nothing while somebody waits in one of `queues`.
pub(crate) async fn decide_all(
    client: &Client,
    requests: &[LimitRequest],
    queues: &[WaitQueue],
    take: bool,
) -> Result<SetReply, Error> {
    let of_queues = queues
        .iter()
        .flat_map(|queue| [&queue.queue, &queue.heartbeats]);
    let of_limits = requests.iter().map(|request| &request.key);
    let keys: SmallVec<[&Key; 8]> = of_limits.chain(of_queues).collect();
    let call = LIMIT_SET
        .invoke(keys)
        .arg(u8::from(take))
        .arg(requests.len())
        .arg(micros(WAITER_ALIVE));
    let call = requests
        .iter()
        .fold(call, |call, request| request.write(call));
    let call = queues
        .iter()
        .fold(call, |call, queue| call.arg(&queue.channel));
    let reply: Vec<i64> = client.eval(call.idempotent(!take)).await?;
    let (head, limits) = reply.split_at_checked(2).unwrap_or_default();
    let waited_for = head.get(1).map_or(0, |queue| count(*queue));
    Ok(SetReply {
        allowed: head.first() == Some(&1),
        waited_for: usize::try_from(waited_for)
            .ok()
            .and_then(|n| n.checked_sub(1)),
        replies: read_replies(limits),
    })
}

/// How a caller stands in a wait queue after it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It was let through: units and leases are taken.
    Granted,
    /// It waits in the queue, with so many waiters before it.
    Waiting(u64),
    /// It is not in the queue: it did not want to join, or would wait for too long. So many are.
    NotQueued(u64),
    /// It is not in the queue, because the queue is full.
    QueueFull,
}

/// One question of a caller that waits, or that lets waiters go first.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) requests: &'a [LimitRequest],
    pub(crate) queue: &'a WaitQueue,
    /// `None` passes when nobody waits, and does not join.
    pub(crate) waiter: Option<Id>,
    /// How long the caller will wait at most.
    pub(crate) max_wait: Duration,
    /// How many may wait.
    pub(crate) max_waiters: u64,
}

/// The answer to a [`Visit`].
#[derive(Debug)]
pub(crate) struct VisitReply {
    pub(crate) turn: Turn,
    /// After how long asking again makes sense although nobody wakes the caller.
    pub(crate) wait_hint: Duration,
    pub(crate) replies: LimitReplies,
}

/// Visits the queue of waiters once, and takes what is asked for if it is the caller's turn.
pub(crate) async fn visit_queue(client: &Client, visit: &Visit<'_>) -> Result<VisitReply, Error> {
    let keys: SmallVec<[&Key; 4]> = visit
        .requests
        .iter()
        .map(|request| &request.key)
        .chain([&visit.queue.queue, &visit.queue.heartbeats])
        .collect();
    let waiter = visit.waiter.map(text).unwrap_or_default();
    let call = ACQUIRE
        .invoke(keys)
        .arg(waiter)
        .arg(micros(WAITER_ALIVE))
        .arg(micros(visit.max_wait))
        .arg(visit.max_waiters)
        .arg(&visit.queue.channel);
    let call = visit
        .requests
        .iter()
        .fold(call, |call, request| request.write(call));
    let reply: Vec<i64> = client.eval(call).await?;
    let (head, limits) = reply.split_at_checked(3).unwrap_or_default();
    let (turn, wait_hint) = match *head {
        [1, _, _] => (Turn::Granted, Duration::ZERO),
        [0, wait, before] => (Turn::Waiting(count(before)), duration(wait)),
        [3, wait, _] => (Turn::QueueFull, duration(wait)),
        [_, wait, before] => (Turn::NotQueued(count(before)), duration(wait)),
        _ => (Turn::NotQueued(0), Duration::ZERO),
    };
    Ok(VisitReply {
        turn,
        wait_hint,
        replies: read_replies(limits),
    })
}

/// The units that a call took from one limit.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) request: LimitRequest,
    pub(crate) refunds: Key,
    /// The callers that wait for units like these.
    pub(crate) waiters: WaitQueue,
    pub(crate) mark: Mark,
}

/// Gives back what a call took, once; gives how many units that was.
pub(crate) async fn refund(client: &Client, id: Id, charge: &Charge) -> Result<u64, Error> {
    client.eval(give_back(id, charge)).await
}

/// The call that gives back what a call took.
pub(crate) fn give_back(id: Id, charge: &Charge) -> Invocation {
    let plan = charge.request.plan.with_delay();
    let call = REFUND
        .invoke([&charge.request.key, &charge.refunds, &charge.waiters.queue])
        .arg(text(id))
        .arg(plan.receipt_life());
    let call = charge.mark.0.iter().fold(call, |call, n| call.arg(*n));
    let request = LimitRequest {
        plan,
        ..charge.request.clone()
    };
    let call = request.write(call).arg(&charge.waiters.channel);
    call.idempotent(true)
}

/// Forgets what was taken, and wakes the first waiter.
pub(crate) async fn reset(
    client: &Client,
    keys: &[Key],
    waiters: &WaitQueue,
) -> Result<i64, Error> {
    let keys: SmallVec<[&Key; 4]> = keys.iter().chain([&waiters.queue]).collect();
    let call = RESET.invoke(keys).arg(&waiters.channel);
    client.eval(call.idempotent(true)).await
}

/// Lets a lease run for `lease` µs from now on, if it still runs. The reply is 1 if so.
pub(crate) fn renew(leases: &Key, id: Id, lease: u64) -> Invocation {
    RENEW.invoke([leases]).arg(text(id)).arg(lease)
}

/// Gives a lease back and wakes the first waiter.
pub(crate) fn release(leases: &Key, id: Id, waiters: &WaitQueue) -> Invocation {
    // Twice is as good as once: nothing else has the id.
    RELEASE
        .invoke([leases, &waiters.queue])
        .arg(text(id))
        .arg(&waiters.channel)
        .idempotent(true)
}

/// A new name for a waiter, or for a lease, that asks for so many units of each limit: see
/// `acquire.lua`. There are never more units than 32 bits hold.
pub(crate) fn waiter_id(cost: u64) -> Id {
    const REST: u32 = 96;
    (Id::from(cost) << REST) | (random::<Id>() & ((1 << REST) - 1))
}

/// An id as scripts and keys hold it.
pub(crate) fn text(id: Id) -> String {
    format!("{id:032x}")
}

impl LimitRequest {
    /// Writes the seven fields of a limit: see `several.lua`.
    fn write(&self, call: Invocation) -> Invocation {
        const PARAMETERS: usize = 5;
        let parameters = self.plan.parameters();
        let call = call.arg(self.plan.script_part()).arg(self.cost);
        let call = parameters.iter().fold(call, |call, n| call.arg(*n));
        let (call, written) = match self.lease_id {
            Some(id) => (call.arg(text(id)), parameters.len() + 1),
            None => (call, parameters.len()),
        };
        (written..PARAMETERS).fold(call, |call, _| call.arg(""))
    }
}

impl LimitReply {
    fn read(reply: &[i64]) -> Self {
        let at = |index| reply.get(index).copied().unwrap_or_default();
        Self {
            allowed: at(0) == 1,
            remaining: count(at(1)),
            reset_after: duration(at(2)),
            wait: duration(at(3)),
            mark: Mark([at(4), at(5), at(6)]),
        }
    }
}

fn read_replies(reply: &[i64]) -> LimitReplies {
    reply.chunks_exact(7).map(LimitReply::read).collect()
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
