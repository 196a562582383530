//! [`Instance`]: this process's part in the fleet. It publishes how it stands, and does what it is ordered to.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use redkit_core::coordination::Token;
use redkit_core::inspection::{Inspect, InspectError, Query, Snapshot};
use redkit_core::{Client, Command, Error, Script};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::keys::Keys;
use super::orders::{Order, Outcome, Seal, Taken, Task, answer};
use super::published::{ClientState, DependencyState, ObjectState, Published, millis, page_json};
use super::redaction::Redaction;
use crate::health::{Health, Report, Status};

static BEAT: Script = Script::new(include_str!("../scripts/dashboard_beat.lua"));

/// How often an instance says how it stands, while somebody watches and otherwise.
pub(super) const WATCHED: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);
/// For how long an instance is believed.
const TTL: Duration = Duration::from_secs(16);
/// How many instances are kept.
pub(super) const MOST_INSTANCES: usize = 200;
/// How often it is measured what stands at the server, while somebody watches.
const MEASURE_EVERY: Duration = Duration::from_secs(3);
/// After this time without a measurement none of them stands any more.
const STALE: Duration = Duration::from_secs(12);
/// How many objects are measured at once; the others have their turns after them.
const MOST_MEASURED: usize = 100;
/// How long one object may take for that, and a beat.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(1);
const BEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// How many orders are done at once.
const ORDERS_AT_ONCE: usize = 4;

pub(super) struct Instance {
    pub(super) id: String,
    pub(super) is_observer: bool,
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) seal: Option<Seal>,
    pub(super) redaction: Redaction,
    pub(super) health: Option<Health>,
    program: String,
    host: String,
    started: SystemTime,
    clients: Vec<(String, Client)>,
    is_watched: AtomicBool,
    /// The dependencies' status, and since when.
    since: Mutex<HashMap<String, (&'static str, u64)>>,
    measured: Mutex<Measured>,
    taken: Taken,
    at_once: Arc<Semaphore>,
}

/// What was last measured, by kind and name.
#[derive(Default)]
struct Measured {
    at: Option<Instant>,
    /// From which object on it goes on.
    next: usize,
    facts: HashMap<(String, String), Result<Snapshot, String>>,
}

impl Instance {
    pub(super) fn new(
        client: Client,
        keys: Keys,
        program: String,
        is_observer: bool,
        seal: Option<Seal>,
        redaction: Redaction,
        health: Option<Health>,
    ) -> Self {
        let mut clients: Vec<(String, Client)> = Vec::new();
        let dependencies = health.iter().flat_map(Health::all);
        for dependency in dependencies {
            let backend = dependency.client.backend();
            let is_known = |(_, known): &(String, Client)| Arc::ptr_eq(known.backend(), backend);
            if !clients.iter().any(is_known) {
                clients.push((dependency.name.clone(), dependency.client.clone()));
            }
        }
        let own = client.backend();
        if !clients
            .iter()
            .any(|(_, known)| Arc::ptr_eq(known.backend(), own))
        {
            clients.insert(0, (client.breaker().name().to_owned(), client.clone()));
        }
        Self {
            id: Token::random().to_string(),
            is_observer,
            keys,
            seal,
            redaction,
            health,
            program,
            host: host(),
            started: SystemTime::now(),
            clients,
            is_watched: AtomicBool::new(false),
            since: Mutex::default(),
            measured: Mutex::default(),
            taken: Taken::default(),
            at_once: Arc::new(Semaphore::new(ORDERS_AT_ONCE)),
            client,
        }
    }

    /// Publishes until it is dropped, and then what was ordered is dropped too.
    pub(super) async fn run(self: Arc<Self>) {
        let mut orders = JoinSet::new();
        loop {
            let begun = Instant::now();
            while orders.try_join_next().is_some() {}
            let beat = AssertUnwindSafe(self.beat()).catch_unwind();
            match timeout(BEAT_TIMEOUT + MEASURE_TIMEOUT, beat).await {
                Ok(Ok(Ok((now, sealed)))) => {
                    for sealed in sealed {
                        self.take(&mut orders, now, sealed);
                    }
                }
                Ok(Ok(Err(error))) => {
                    tracing::debug!(target: "redkit::monitor", %error, "this instance is not shown by dashboards");
                }
                Ok(Err(_)) => {
                    tracing::error!(target: "redkit::monitor", "a beat of this instance panicked; the next one comes in time");
                }
                Err(_) => {
                    tracing::debug!(target: "redkit::monitor", "a beat took too long");
                }
            }
            let every = match self.is_watched.load(Ordering::Relaxed) {
                true => WATCHED,
                false => IDLE,
            };
            sleep((begun + every).saturating_duration_since(Instant::now())).await;
        }
    }

    /// Gives the server's time (µs) and the orders that have come.
    async fn beat(&self) -> Result<(u64, Vec<Bytes>), Error> {
        let snapshot = self.publish().await.encode();
        let keys = [
            self.keys.instances(),
            self.keys.snapshot(&self.id),
            self.keys.orders(&self.id),
            self.keys.watched(),
        ];
        let call = BEAT.invoke(keys).arg(&*self.id).arg(snapshot);
        let call = call.arg(TTL.as_millis()).arg(MOST_INSTANCES);
        let (watched, now, orders): (u64, String, Vec<Bytes>) = self.client.eval(call).await?;
        self.is_watched.store(watched == 1, Ordering::Relaxed);
        Ok((now.parse().unwrap_or_default(), orders))
    }

    /// Says at once that it is gone.
    pub(super) async fn leave(&self) {
        if self.is_observer {
            return;
        }
        let remove = Command::new("ZREM")
            .key(self.keys.instances())
            .arg(&*self.id);
        let delete = Command::new("DEL").key(self.keys.snapshot(&self.id));
        let both = vec![remove.idempotent(true), delete.idempotent(true)];
        // It is forgotten by itself as well.
        let _ = timeout(BEAT_TIMEOUT, self.client.pipeline(both)).await;
    }

    /// Begins what was ordered, unless the order is not for this instance, not sealed, or too old.
    fn take(self: &Arc<Self>, orders: &mut JoinSet<()>, now: u64, sealed: Bytes) {
        let Some(seal) = &self.seal else {
            tracing::warn!(target: "redkit::monitor", "an order was refused: this instance has no command key");
            return;
        };
        let place = self.keys.orders(&self.id);
        let Some(order) = self.taken.accept(seal, &place, &self.id, now, sealed) else {
            tracing::warn!(target: "redkit::monitor", "an order was refused: it is not sealed for this instance, or too old");
            return;
        };
        let permit = Arc::clone(&self.at_once).try_acquire_owned();
        let instance = Arc::clone(self);
        orders.spawn(async move {
            let outcome = match &permit {
                Ok(_) => timeout(ORDER_TIMEOUT, instance.carry_out(&order)).await,
                Err(_) => Ok(Outcome::Failed("the instance is busy".to_owned())),
            };
            let outcome = outcome.unwrap_or_else(|_| {
                Outcome::Failed(format!("it took longer than {ORDER_TIMEOUT:?}"))
            });
            let Order { by, kind, name, .. } = &order;
            tracing::info!(target: "redkit::monitor", by, kind, name, "an order was carried out");
            if let Some(seal) = &instance.seal {
                answer(&instance.client, &instance.keys, seal, &order, outcome).await;
            }
        });
    }

    async fn carry_out(&self, order: &Order) -> Outcome {
        let done = match &order.task {
            Task::Act { action, argument } => {
                let done = self.act(&order.kind, &order.name, action, argument).await;
                done.map(Outcome::Done)
            }
            Task::List { list, payloads, .. } => {
                let query = order.task.query();
                let page = self
                    .list(&order.kind, &order.name, list, &query, *payloads)
                    .await;
                page.map(Outcome::Page)
            }
        };
        done.unwrap_or_else(|error| Outcome::Failed(error.to_string()))
    }

    /// Whether an object of this kind and name is in this process.
    pub(super) fn has_object(&self, kind: &str, name: &str) -> bool {
        !self.objects(kind, name).is_empty()
    }

    /// The object of this kind and name in this process. What is done to one of two objects of one client is done to
    /// what they share; objects of two clients share nothing.
    fn object(&self, kind: &str, name: &str) -> Result<Arc<dyn Inspect>, InspectError> {
        let mut objects = self.objects(kind, name).into_iter();
        match (objects.next(), objects.next()) {
            (Some(object), None) => Ok(object),
            (None, _) => Err(InspectError::Failed(
                "there is no such object in this process".into(),
            )),
            (Some(_), Some(_)) => Err(InspectError::Failed(
                "two clients of this process have an object of this kind and name, so that it is not clear which is \
                 meant: give the objects names of their own (clients and breakers have that of `client_name`)"
                    .into(),
            )),
        }
    }

    /// Of each client the first object of this kind and name.
    fn objects(&self, kind: &str, name: &str) -> Vec<Arc<dyn Inspect>> {
        let is_meant = |object: &Arc<dyn Inspect>| {
            names_of(&**object).is_some_and(|is| is.0 == kind && is.1 == name)
        };
        let clients = self.clients.iter();
        let first = clients.filter_map(|(_, client)| client.inspect().into_iter().find(is_meant));
        first.collect()
    }

    pub(super) async fn act(
        &self,
        kind: &str,
        name: &str,
        action: &str,
        argument: &str,
    ) -> Result<String, InspectError> {
        let object = self.object(kind, name)?;
        guarded(async { object.act(action, argument).await }).await
    }

    /// A page as the program's hook shows it, whether it is for this process's pages or another's.
    pub(super) async fn list(
        &self,
        kind: &str,
        name: &str,
        list: &str,
        query: &Query,
        payloads: bool,
    ) -> Result<Value, InspectError> {
        let object = self.object(kind, name)?;
        let page = guarded(async { object.list(list, query).await }).await?;
        let mut page = page_json(&page, payloads);
        self.redaction.hide(&mut page);
        Ok(page)
    }

    /// How this instance stands now.
    pub(super) async fn publish(&self) -> Published {
        let report = match &self.health {
            Some(health) => Some(health.ready().await),
            None => None,
        };
        let objects: Vec<(&str, Arc<dyn Inspect>)> = self
            .clients
            .iter()
            .flat_map(|(name, client)| {
                client
                    .inspect()
                    .into_iter()
                    .map(move |object| (name.as_str(), object))
            })
            .collect();
        if self.is_watched.load(Ordering::Relaxed) || self.is_observer {
            self.measure(&objects).await;
        }
        let states = objects
            .iter()
            .filter_map(|(client, object)| ObjectState::of(client, &**object));
        let mut states: Vec<_> = states.collect();
        {
            let measured = self.measured.lock();
            let is_fresh = measured.at.is_some_and(|at| at.elapsed() < STALE);
            for state in states.iter_mut().filter(|_| is_fresh) {
                match measured
                    .facts
                    .get(&(state.kind.clone(), state.name.clone()))
                {
                    Some(Ok(snapshot)) => state.measured(snapshot),
                    Some(Err(error)) => state.measure_error.clone_from(error),
                    None => {}
                }
            }
        }
        let clients = self.clients.iter();
        let clients: Vec<_> = clients
            .map(|(name, client)| ClientState::of(name, client))
            .collect();
        Published {
            id: self.id.clone(),
            program: self.program.clone(),
            host: self.host.clone(),
            process: std::process::id(),
            started: millis(self.started),
            at: millis(SystemTime::now()),
            dependencies: self.dependencies(report.as_deref(), &clients),
            clients,
            objects: states,
            classes: Vec::new(),
            left_out: 0,
        }
    }

    /// Measures what stands at the server, all objects at once, unless that was done a moment ago.
    async fn measure(&self, objects: &[(&str, Arc<dyn Inspect>)]) {
        let turn = {
            let mut measured = self.measured.lock();
            if measured.at.is_some_and(|at| at.elapsed() < MEASURE_EVERY) {
                return;
            }
            if measured.at.is_some_and(|at| at.elapsed() >= STALE) {
                // Nobody has watched meanwhile.
                measured.facts.clear();
            }
            measured.at = Some(Instant::now());
            let from = if measured.next < objects.len() {
                measured.next
            } else {
                0
            };
            let until = objects.len().min(from + MOST_MEASURED);
            measured.next = until;
            from..until
        };
        let Some(turn) = objects.get(turn) else {
            return;
        };
        let named = |object: &Arc<dyn Inspect>| Some((names_of(&**object)?, Arc::clone(object)));
        let turn = turn.iter().filter_map(|(_, object)| named(object));
        let measures = turn.map(async |(names, object)| {
            let measure = guarded(async { object.measure().await });
            let read = match timeout(MEASURE_TIMEOUT, measure).await {
                Ok(read) => read.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {MEASURE_TIMEOUT:?}")),
            };
            (names, read)
        });
        let read = join_all(measures).await;
        let is_there = objects.iter().filter_map(|(_, object)| names_of(&**object));
        let is_there: HashSet<_> = is_there.collect();
        let mut measured = self.measured.lock();
        measured.facts.retain(|object, _| is_there.contains(object));
        for (object, read) in read {
            match &read {
                Ok(snapshot) if snapshot.facts.is_empty() => measured.facts.remove(&object),
                _ => measured.facts.insert(object, read),
            };
        }
    }

    /// The dependencies as the health check has them, or the clients when there is none.
    fn dependencies(
        &self,
        report: Option<&Report>,
        clients: &[ClientState],
    ) -> Vec<DependencyState> {
        let Some((health, report)) = self.health.as_ref().zip(report) else {
            let of = |client: &ClientState| {
                let status = match (client.is_connected, client.breaker.as_str()) {
                    (false, _) => (Status::Fail, "it is not connected"),
                    (true, "open" | "forced_open") => (Status::Fail, "its circuit breaker is open"),
                    (true, "half_open") => (Status::Warn, "its circuit breaker is half open"),
                    _ => (Status::Pass, ""),
                };
                self.dependency(&client.name, true, status.0, status.1.to_owned())
            };
            return clients.iter().map(of).collect();
        };
        let dependencies = health.dependencies();
        dependencies
            .map(|(name, is_hard)| {
                let worst = report.of(name).max_by_key(|check| check.status);
                let status = worst.map_or(Status::Pass, |check| check.status);
                let cause = worst.and_then(|check| check.cause.as_ref());
                let cause = cause.map(ToString::to_string).unwrap_or_default();
                self.dependency(name, is_hard, status, cause)
            })
            .collect()
    }

    fn dependency(
        &self,
        name: &str,
        is_hard: bool,
        status: Status,
        cause: String,
    ) -> DependencyState {
        let now = millis(SystemTime::now());
        let mut since = self.since.lock();
        let known = since.entry(name.to_owned());
        let known = known.or_insert((status.as_str(), now));
        if known.0 != status.as_str() {
            *known = (status.as_str(), now);
        }
        DependencyState {
            name: name.to_owned(),
            status: status.as_str().to_owned(),
            is_hard,
            since: known.1,
            cause,
        }
    }

    /// What the other instances have published, the newest of them first.
    pub(super) async fn others(&self) -> Result<Vec<Published>, Error> {
        let watch = Command::new("SET").key(self.keys.watched()).arg(1);
        let watch = watch.arg("PX").arg(TTL.as_millis()).idempotent(true);
        let list = Command::new("ZREVRANGE").key(self.keys.instances()).arg(0);
        let list = list.arg(MOST_INSTANCES - 1).idempotent(true);
        let mut replies = self.client.pipeline(vec![watch, list]).await?.into_iter();
        let ids = match replies.nth(1) {
            Some(Ok(ids)) => ids.to::<Vec<String>>().unwrap_or_default(),
            Some(Err(error)) => {
                return Err(Error::Call {
                    command: "ZREVRANGE".into(),
                    error,
                });
            }
            None => Vec::new(),
        };
        self.is_watched.store(true, Ordering::Relaxed);
        let ids: Vec<_> = ids.into_iter().filter(|id| *id != self.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let read = ids.iter().fold(Command::new("MGET"), |read, id| {
            read.key(self.keys.snapshot(id))
        });
        let texts: Vec<Option<Bytes>> = self.client.call(read.idempotent(true)).await?;
        let read = texts.into_iter().flatten();
        Ok(read.filter_map(|text| Published::decode(&text)).collect())
    }
}

/// How long an order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(15);

/// An object's kind and name; nothing when it panics instead of giving them.
fn names_of(object: &dyn Inspect) -> Option<(String, String)> {
    catch_unwind(AssertUnwindSafe(|| {
        (object.kind().to_owned(), object.name())
    }))
    .ok()
}

/// What an object does, which is the program's code: that it panics is an error of its own, and ends nothing else.
async fn guarded<T>(
    work: impl Future<Output = Result<T, InspectError>>,
) -> Result<T, InspectError> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| {
        let why = "it panicked: what was done until then is not known";
        Err(InspectError::Failed(why.into()))
    })
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| std::env::var("HOSTNAME"));
    let name = name.unwrap_or_default();
    match name.trim() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}
