//! [`SentinelMonitor`]: one connection to every sentinel, on which it is asked for the master, and on which
//! it says at once when that changes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::election::{MasterElection, MasterReport, Verdict};
use crate::command::Command;
use crate::config::Address;
use crate::driver::link::Link;
use crate::driver::subscriptions::{Change, Name, NameKind, PushConnector, PushLink, Registry};
use crate::driver::supervisor::is_worth_a_line;
use crate::error::{CallError, Fault, FaultKind};
use crate::push::push_channel;
use crate::value::Value;

/// How long one sentinel may take, at the least. A busy machine encrypts slowly.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long one sentinel may take to be connected to, with the handshakes, and to answer.
#[derive(Debug, Clone, Copy)]
struct Patience {
    connect: Duration,
    answer: Duration,
}

impl Patience {
    /// A little less than whoever wants to know the master waits: to be told why.
    fn of(connect_timeout: Duration) -> Self {
        Self {
            connect: PATIENCE.max(connect_timeout * 9 / 10),
            answer: PATIENCE.max(connect_timeout / 2),
        }
    }
}

/// How long to wait for the other sentinels once one has named a master: it may be behind.
const STRAGGLERS: Duration = Duration::from_millis(50);

/// How often a sentinel is asked that says nothing by itself.
const POLL: Duration = Duration::from_secs(2);

/// How soon a sentinel that was lost is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How soon a sentinel is asked again that somebody doubts, at most: `PAUSE.0` at first, and twice
/// as long every time.
const DOUBT: Duration = Duration::from_millis(500);

/// What a sentinel publishes when it has switched to another master.
const SWITCHED: &[u8] = b"+switch-master";

/// Knows the master of a name. It begins to ask when somebody wants to know.
pub(in crate::driver) struct SentinelMonitor {
    shared: Arc<Shared>,
    start: Box<Start>,
    ask_all: Box<AskAll>,
    tasks: OnceLock<Tasks>,
}

/// Asks every sentinel the same, each on a connection of its own, within a time.
type AskAll = dyn Fn(Command, Duration) -> BoxFuture<'static, Vec<Said>> + Send + Sync;

/// A sentinel, and what it said.
pub(super) type Said = (Box<str>, Result<Value, CallError>);

/// Begins to watch over the sentinels.
type Start = dyn Fn(&Arc<Shared>) -> Tasks + Send + Sync;

/// One for each sentinel.
type Tasks = Vec<AbortOnDropHandle<()>>;

struct Shared {
    patience: Patience,
    name: Arc<str>,
    election: Mutex<MasterElection>,
    /// The master that follows from all reports.
    master: watch::Sender<Option<Address>>,
    /// A sentinel has reported, or cannot be asked.
    news: watch::Sender<()>,
    /// A caller found that the master is another.
    doubt: Notify,
    shutdown: CancellationToken,
}

impl SentinelMonitor {
    pub(super) fn new<P: PushConnector>(
        name: &str,
        sentinels: Vec<P>,
        connect_timeout: Duration,
    ) -> Self {
        let shared = Shared {
            patience: Patience::of(connect_timeout),
            name: name.into(),
            election: Mutex::new(MasterElection::new(sentinels.len())),
            master: watch::Sender::new(None),
            news: watch::Sender::new(()),
            doubt: Notify::new(),
            shutdown: CancellationToken::new(),
        };
        let sentinels: Vec<_> = sentinels.into_iter().map(Arc::new).collect();
        let asked = sentinels.clone();
        let start = move |shared: &Arc<Shared>| {
            let watched = sentinels.iter().enumerate().map(|(number, sentinel)| {
                let (sentinel, shared) = (Arc::clone(sentinel), Arc::clone(shared));
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let stop = shared.shutdown.clone();
                    tokio::select! {
                        () = watch_over(&*sentinel, number, &shared) => {}
                        () = stop.cancelled() => {}
                    }
                }))
            });
            watched.collect()
        };
        let ask_all = move |command: Command, limit: Duration| {
            let (asked, command) = (asked.clone(), Arc::new(command));
            let asked = asked.into_iter().map(move |sentinel| {
                let command = Arc::clone(&command);
                async move {
                    let said = timeout(limit, ask_once(&*sentinel, &command)).await;
                    let late = || Fault::new(FaultKind::Timeout, "the sentinel did not answer");
                    let said = said.unwrap_or_else(|_| Err(late().maybe()));
                    (sentinel.target().into_boxed_str(), said)
                }
            });
            join_all(asked).boxed()
        };
        Self {
            shared: Arc::new(shared),
            start: Box::new(start),
            ask_all: Box::new(ask_all),
            tasks: OnceLock::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// What each sentinel says of whether a failover could be agreed on now.
    pub(super) async fn check_quorum(&self, limit: Duration) -> Vec<Said> {
        let ask = Command::new("SENTINEL").arg("CKQUORUM").arg(self.name());
        (self.ask_all)(ask, limit).await
    }

    /// The master, by all that the sentinels have said. Waits until one has said something, and a
    /// little longer for the others. It may be behind: whoever connects checks the role.
    pub(super) async fn find(&self) -> Result<Address, Fault> {
        self.tasks.get_or_init(|| (self.start)(&self.shared));
        let mut news = self.shared.news.subscribe();
        let mut until = None;
        loop {
            news.mark_unchanged();
            if self.shared.shutdown.is_cancelled() {
                return Err(Fault::new(FaultKind::Shutdown, "the client was shut down"));
            }
            let verdict = {
                let present = self.shared.master.borrow().clone();
                self.shared.election.lock().verdict(present.as_ref())
            };
            let changed = match verdict {
                Verdict::Settled(address) => return Ok(address),
                Verdict::Failed(fault) => return Err(fault),
                Verdict::Provisional(address) => {
                    let until = *until.get_or_insert_with(|| Instant::now() + STRAGGLERS);
                    match timeout_at(until, news.changed()).await {
                        Ok(changed) => changed,
                        Err(_) => return Ok(address),
                    }
                }
                Verdict::Open => news.changed().await,
            };
            if changed.is_err() {
                return Err(Fault::new(FaultKind::Shutdown, "the client was shut down"));
            }
        }
    }

    /// Whether the one at `address` serves as master. When it does not, the sentinels are asked
    /// anew.
    pub(super) fn judge(&self, address: &Address, serves: bool) {
        self.shared.election.lock().judge(address, serves);
        if !serves {
            self.shared.doubt.notify_waiters();
        }
    }

    /// Waits until the master is another than the one at `address`.
    pub(super) fn superseded(&self, address: &Address) -> impl Future<Output = ()> + use<> {
        let mut master = self.shared.master.subscribe();
        let (name, address) = (Arc::clone(&self.shared.name), address.clone());
        async move {
            let is_other = |now: &Option<Address>| now.as_ref().is_some_and(|now| *now != address);
            let other = master
                .wait_for(is_other)
                .await
                .ok()
                .and_then(|now| now.clone());
            let Some(other) = other else {
                // Nobody looks out any more.
                return std::future::pending().await;
            };
            tracing::info!(
                target: "redkit::connection",
                master = %name, from = %address, to = %other, "the master has changed"
            );
        }
    }

    pub(super) fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.news.send_replace(());
    }
}

impl Shared {
    fn note(&self, sentinel: usize, said: Result<MasterReport, Fault>) {
        let mut election = self.election.lock();
        election.note(sentinel, said);
        self.master.send_if_modified(|present| {
            let master = election.master(present.as_ref());
            let differs = master.is_some() && master != *present;
            if differs {
                *present = master;
            }
            differs
        });
        drop(election);
        self.news.send_replace(());
    }
}

/// Keeps asking one sentinel, over one connection after the other.
async fn watch_over<P: PushConnector>(sentinel: &P, number: usize, shared: &Shared) {
    let mut pause = PAUSE.0;
    let mut failures = 0_u32;
    loop {
        let mut was_heard = false;
        let fault = attend(sentinel, number, shared, &mut was_heard).await;
        failures = match was_heard {
            true => 1,
            false => failures.saturating_add(1),
        };
        if is_worth_a_line(failures) {
            tracing::warn!(
                target: "redkit::connection",
                failures, error = %fault, "a sentinel cannot be asked"
            );
        }
        shared.note(number, Err(fault));
        pause = match was_heard {
            true => PAUSE.0,
            false => (pause * 2).min(PAUSE.1),
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.doubt.notified() => sleep((pause / 2).max(PAUSE.0)).await,
        }
    }
}

/// Asks one sentinel over one connection until that breaks: at once, whenever it says that a
/// master has changed, when somebody doubts, and now and then.
async fn attend<P: PushConnector>(
    sentinel: &P,
    number: usize,
    shared: &Shared,
    was_heard: &mut bool,
) -> Fault {
    let (target, patience) = (sentinel.target(), shared.patience);
    let late = || {
        let message = format!("sentinel {target} did not answer; check `sentinels`");
        Fault::new(FaultKind::Connect, message)
    };
    let registry = Arc::new(Registry::default());
    let switched = [Name {
        kind: NameKind::Channel,
        bytes: Bytes::from_static(SWITCHED),
    }];
    let (sink, mut events) = push_channel(16);
    registry.add(&switched, &sink);
    let link = match timeout(patience.connect, sentinel.connect(&registry)).await {
        Ok(Ok(link)) => link,
        Ok(Err(fault)) if fault.kind() == FaultKind::Handshake => {
            // The connector speaks of the servers' fields; a sentinel has its own.
            let message = fault
                .to_string()
                .replace("`username`", "`sentinel_username`")
                .replace("`password`", "`sentinel_password`");
            return Fault::new(FaultKind::Handshake, format!("sentinel: {message}"));
        }
        Ok(Err(fault)) => return fault,
        Err(_) => return late(),
    };
    // First, so that no switch falls between asking and listening.
    match timeout(patience.answer, link.change(Change::Subscribe, &switched)).await {
        Ok(Ok(())) => {}
        Ok(Err(CallError::Replied(error))) => tracing::warn!(
            target: "redkit::connection",
            sentinel = %target, %error,
            "no word of failovers from this sentinel, which is asked every two seconds instead; \
             its user needs the right to SUBSCRIBE to +switch-master"
        ),
        Ok(Err(CallError::NotSent(fault) | CallError::Maybe(fault))) => return fault,
        Err(_) => return late(),
    }
    let mut pause = PAUSE.0;
    loop {
        let doubt = shared.doubt.notified();
        match timeout(patience.answer, ask(&link, &target, &shared.name)).await {
            Ok(Ok(report)) => shared.note(number, Ok(report)),
            Ok(Err(fault)) => return fault,
            Err(_) => return late(),
        }
        *was_heard = true;
        tokio::select! {
            () = link.closed() => {
                return Fault::new(FaultKind::Disconnected, format!("sentinel {target} hung up"));
            }
            _ = events.next() => pause = PAUSE.0,
            () = async { doubt.await; sleep(pause).await } => pause = (pause * 2).min(DOUBT),
            () = sleep(POLL) => pause = PAUSE.0,
        }
    }
}

/// Asks on a connection of its own.
async fn ask_once<P: PushConnector>(sentinel: &P, command: &Command) -> Result<Value, CallError> {
    let registry = Arc::new(Registry::default());
    let link = sentinel.connect(&registry).await.map_err(Fault::not_sent)?;
    let said = link.ask(command).await;
    link.close();
    said
}

async fn ask<L: PushLink>(link: &L, target: &str, name: &str) -> Result<MasterReport, Fault> {
    let about = |what: &'static str| Command::new("SENTINEL").arg(what).arg(name);
    let malformed = |error: &dyn std::fmt::Display| {
        Fault::new(FaultKind::Protocol, format!("sentinel {target}: {error}"))
    };
    // Before the address: an epoch that is too old for it only makes it count for less.
    let epoch = match link.ask(&about("MASTER")).await {
        Ok(reply) => {
            let fields: Vec<(String, String)> = reply.to().map_err(|error| malformed(&error))?;
            let epoch = fields.iter().find(|(field, _)| field == "config-epoch");
            epoch.and_then(|(_, epoch)| epoch.parse().ok())
        }
        // A user may lack the right to this one; an unknown name is found below.
        Err(CallError::Replied(_)) => None,
        Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => return Err(fault),
    };
    let address: Option<(String, u16)> = match link.ask(&about("GET-MASTER-ADDR-BY-NAME")).await {
        Ok(reply) => reply.to().map_err(|error| malformed(&error))?,
        Err(CallError::Replied(error)) if error.message().contains("unknown command") => {
            let message = format!(
                "{target} is no sentinel; write redis:// instead of redis-sentinel://, or check \
                 `sentinels`"
            );
            return Err(Fault::new(FaultKind::Handshake, message));
        }
        Err(CallError::Replied(error)) => {
            let message = format!(
                "sentinel {target} refused: {error}; check `sentinel_username` and \
                 `sentinel_password`"
            );
            return Err(Fault::new(FaultKind::Handshake, message));
        }
        Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => return Err(fault),
    };
    match address {
        Some((host, port)) => Ok(MasterReport {
            master: Address { host, port },
            epoch: epoch.unwrap_or(0),
        }),
        None => {
            let message =
                format!("sentinel {target} knows no master named `{name}`; check `master`");
            Err(Fault::new(FaultKind::Handshake, message))
        }
    }
}
