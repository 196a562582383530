//! [`Leases`]: the leases that a client's users hold, renewed by one task.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::state::LeaseState;
use super::{Lease, LeaseConfig, LeaseRenewal};
use crate::client::{Client, Request, WeakClient};
use crate::random::random_range;
use crate::value::Value;

/// The leases of one client.
pub(crate) struct Leases {
    schedule: Arc<Schedule>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Which lease is due when.
#[derive(Default)]
struct Schedule {
    state: Mutex<State>,
    /// A lease is due before the task would wake up.
    is_earlier: Notify,
}

#[derive(Default)]
struct State {
    leases: HashMap<u64, Entry>,
    due: BTreeSet<(Instant, u64)>,
    /// Until when the task sleeps; `None` while it waits for a first lease.
    sleeps_until: Option<Instant>,
    last_id: u64,
}

struct Entry {
    lease: Arc<LeaseState>,
    /// `None` while it is being renewed.
    due: Option<Instant>,
}

/// How many leases one pipeline renews: a server is busy with them for about two milliseconds.
const PER_CALL: usize = 500;

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            schedule: Arc::default(),
            task: Mutex::default(),
        }
    }

    /// Renews a lease that was taken by a call sent at `sent`, from now on.
    pub(crate) fn keep(
        &self,
        client: Client,
        renewal: Box<dyn LeaseRenewal>,
        config: LeaseConfig,
        sent: Instant,
    ) -> Lease {
        let lease = Arc::new(LeaseState::new(renewal, config, sent));
        let id = self.schedule.add(Arc::clone(&lease), sent);
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let renewing = renew_for_ever(client.downgrade(), Arc::clone(&self.schedule));
            *task = Some(AbortOnDropHandle::new(tokio::spawn(renewing)));
        }
        drop(task);
        Lease::new(client, lease, id)
    }

    pub(super) fn remove(&self, id: u64) {
        let mut state = self.schedule.state.lock();
        if let Some(Entry { due: Some(due), .. }) = state.leases.remove(&id) {
            state.due.remove(&(due, id));
        }
    }

    /// How many leases are held.
    pub(crate) fn count(&self) -> usize {
        self.schedule.state.lock().leases.len()
    }
}

impl Schedule {
    fn add(&self, lease: Arc<LeaseState>, sent: Instant) -> u64 {
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        let due = next_renewal(&lease, sent);
        let entry = Entry {
            lease,
            due: Some(due),
        };
        state.leases.insert(id, entry);
        self.insert(&mut state, due, id);
        id
    }

    fn insert(&self, state: &mut State, due: Instant, id: u64) {
        state.due.insert((due, id));
        // A lease that is given back does not wake the task, nor does the next one, which is due later: to wake it for
        // each would cost a short lease more than all else.
        if state.sleeps_until.is_none_or(|until| due < until) {
            self.is_earlier.notify_one();
        }
    }

    /// A renewal has ended, and the lease is due again then; or it is not to be renewed any more.
    fn again(&self, id: u64, due: Option<Instant>) {
        let mut state = self.state.lock();
        let Some(due) = due else {
            state.leases.remove(&id);
            return;
        };
        // It may have been given back meanwhile.
        let Some(entry) = state.leases.get_mut(&id) else {
            return;
        };
        entry.due = Some(due);
        self.insert(&mut state, due, id);
    }

    /// The leases that are due, and those that are due so soon that they may go with them.
    fn take_due(&self, now: Instant) -> Vec<(u64, Arc<LeaseState>)> {
        let mut state = self.state.lock();
        let State { leases, due, .. } = &mut *state;
        let mut taken = Vec::new();
        let mut latest = now;
        while let Some(&(at, id)) = due.first()
            && at <= latest
        {
            due.pop_first();
            let Some(entry) = leases.get_mut(&id) else {
                continue;
            };
            entry.due = None;
            if taken.is_empty() {
                latest = now + entry.lease.ttl() / 10;
            }
            taken.push((id, Arc::clone(&entry.lease)));
        }
        taken
    }

    async fn wait_until_due(&self) {
        loop {
            let first = {
                let mut state = self.state.lock();
                state.sleeps_until = state.due.first().map(|(first, _)| *first);
                state.sleeps_until
            };
            match first {
                Some(first) => {
                    tokio::select! {
                        biased;
                        () = sleep_until(first) => return,
                        () = self.is_earlier.notified() => {}
                    }
                }
                None => self.is_earlier.notified().await,
            }
        }
    }
}

async fn renew_for_ever(client: WeakClient, schedule: Arc<Schedule>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = schedule.wait_until_due() => {
                let Some(client) = client.upgrade() else { return };
                for batch in batches(schedule.take_due(Instant::now())) {
                    under_way.push(renew_or_report(client.clone(), Arc::clone(&schedule), batch));
                }
            }
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

/// Leases of about the same length go together: the longer ones' calls may take longer.
fn batches(due: Vec<(u64, Arc<LeaseState>)>) -> Vec<Vec<(u64, Arc<LeaseState>)>> {
    let mut by_length: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for (id, lease) in due {
        let length = lease.ttl().as_millis().max(1).ilog2();
        by_length.entry(length).or_default().push((id, lease));
    }
    let batches = by_length.into_values();
    batches
        .flat_map(|leases| {
            leases
                .chunks(PER_CALL)
                .map(<[_]>::to_vec)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Renews leases once. A panic on the way, of a driver for one, must not end the task that renews all
/// leases of the client: these are tried again, as after any failure.
async fn renew_or_report(
    client: Client,
    schedule: Arc<Schedule>,
    batch: Vec<(u64, Arc<LeaseState>)>,
) {
    let leases = batch.clone();
    let renewing = AssertUnwindSafe(renew(client, Arc::clone(&schedule), batch));
    if renewing.catch_unwind().await.is_err() {
        tracing::error!(target: "redkit::coordination", leases = leases.len(), "a panic while leases were renewed");
        let now = Instant::now();
        for (id, lease) in leases {
            schedule.again(id, Some(next_attempt(&lease, now)));
        }
    }
}

/// Renews leases once, and says when each is due again.
async fn renew(client: Client, schedule: Arc<Schedule>, batch: Vec<(u64, Arc<LeaseState>)>) {
    let sent = Instant::now();
    // Further attempts at a lease whose failure was told are many, and say the same.
    let mut panicked = 0;
    let mut asked = Vec::with_capacity(batch.len());
    let mut calls = Vec::with_capacity(batch.len());
    for (id, lease) in batch {
        match lease.ttl_at(sent) {
            Some(ttl) if lease.can_be_prolonged() => match lease.renewal_call(ttl) {
                // A node that hangs must not hold up what the others say for too long: a sixth of the
                // time leaves the leases of the others enough for two further attempts.
                Some(call) => {
                    let call = call.deadline(sent + (lease.ttl() / 6).max(SHORTEST));
                    // Such a node uses up the time in which a node that lacks the script would be sent
                    // its text: after a failure the text goes at once.
                    calls.push(match lease.has_failed() {
                        true => Request::Command(call.by_source()),
                        false => Request::Script(call),
                    });
                    asked.push((id, lease, ttl));
                }
                None => {
                    panicked += usize::from(!lease.has_failed());
                    lease.note_failure(true);
                    schedule.again(id, Some(next_attempt(&lease, sent)));
                }
            },
            // It is to be lost at its deadline, and nothing else.
            Some(_) => schedule.again(id, Some(lease.until())),
            None => schedule.again(id, None),
        }
    }
    report_panics(panicked);
    if asked.is_empty() {
        return;
    }
    let replies = client.eval_all(calls).await;
    let is_news = |(_, lease, _): &&(_, Arc<LeaseState>, _)| !lease.has_failed();
    let replies = match replies {
        Ok(replies) => {
            let of_leases = replies.iter().zip(&asked);
            let news = of_leases.filter(|(_, asked)| is_news(asked));
            let mut errors = news.filter_map(|(reply, _)| reply.as_ref().err());
            if let Some(first) = errors.next() {
                warn_of(first, 1 + errors.count());
            }
            replies.into_iter().map(Some).collect()
        }
        Err(error) => {
            match asked.iter().filter(is_news).count() {
                0 => {}
                leases => warn_of(&error, leases),
            }
            Vec::new()
        }
    };
    let now = Instant::now();
    let mut panicked = 0;
    let mut replies: std::vec::IntoIter<Option<Result<Value, _>>> = replies.into_iter();
    for (id, lease, ttl) in asked {
        let is_held = match replies.next().flatten() {
            Some(Ok(reply)) => {
                let is_held = lease.try_answered(sent, ttl, &reply);
                panicked += usize::from(is_held.is_none() && !lease.has_failed());
                is_held
            }
            Some(Err(_)) | None => None,
        };
        lease.note_failure(is_held.is_none());
        let next = match is_held {
            Some(true) => Some(next_renewal(&lease, sent)),
            Some(false) => None,
            None => Some(next_attempt(&lease, now)),
        };
        schedule.again(id, next);
    }
    report_panics(panicked);
}

/// How long a call may take at least, and a pause between two attempts is at least.
const SHORTEST: Duration = Duration::from_millis(20);

/// After a failure. The lease is lost when its time is up; until then there are further attempts.
fn next_attempt(lease: &LeaseState, now: Instant) -> Instant {
    (now + (lease.ttl() / 20).max(SHORTEST)).min(lease.until())
}

/// One line for all leases of a batch, which mostly fail for the same reason.
fn warn_of(error: &dyn fmt::Display, leases: usize) {
    tracing::warn!(target: "redkit::coordination", %error, leases, "cannot renew leases");
}

/// One line for all leases of a batch whose users' code panicked for the first time since it last succeeded.
fn report_panics(leases: usize) {
    if leases > 0 {
        tracing::error!(target: "redkit::coordination", leases, "a `LeaseRenewal` panics; its lease is not renewed");
    }
}

/// A third of the time after it was sent, a little less at random, so that the processes of a fleet
/// that started together do not go on together.
fn next_renewal(lease: &LeaseState, sent: Instant) -> Instant {
    let third = (lease.ttl() / 3).mul_f64(random_range(0.85..=1.0));
    (sent + third).min(lease.until())
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("held", &self.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Invocation, Script};

    static RENEW: Script = Script::new("return 1");

    struct Renewal;

    impl LeaseRenewal for Renewal {
        fn renew(&self, _ttl: Duration) -> Invocation {
            RENEW.invoke(["k"])
        }
    }

    fn lease(ttl: Duration) -> Arc<LeaseState> {
        let config = LeaseConfig::new(ttl);
        Arc::new(LeaseState::new(Box::new(Renewal), config, Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn short_leases_do_not_wake_the_task_and_an_earlier_one_does() {
        const TTL: Duration = Duration::from_secs(30);
        let leases = Leases::new();
        let schedule = Arc::clone(&leases.schedule);
        let start = Instant::now();
        let first = schedule.add(lease(TTL), start);
        let mut task = std::pin::pin!(schedule.wait_until_due());
        assert!(task.as_mut().now_or_never().is_none());
        leases.remove(first);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            // Renewals are due a little earlier or later: twice the time is later in any case.
            let id = schedule.add(lease(2 * TTL), Instant::now());
            leases.remove(id);
        }
        let woken = schedule.is_earlier.notified().now_or_never();
        assert!(woken.is_none(), "the task was woken");
        schedule.add(lease(TTL / 10), Instant::now());
        tokio::time::timeout(TTL / 10, task).await.unwrap();
        assert!(start.elapsed() < TTL / 10);
        assert_eq!(schedule.take_due(Instant::now()).len(), 1);
    }
}
