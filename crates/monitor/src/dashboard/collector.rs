//! [`Collector`]: puts together what pages show, once for all pages that are open in this process, and only while one
//! is.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use redkit_core::Error;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::attention::{self, Level};
use super::census::{self, Census};
use super::fleet::{Fleet, Rates, Traffic};
use super::instance::{Instance, WATCHED};
use super::published::millis;
use crate::statistics::{ServerLatency, ServerStatistics, Statistics};

/// How many points of the charts are kept: ten minutes.
const MOST_POINTS: usize = 600;
/// How many pages may be open at once.
const MOST_PAGES: usize = 64;
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(4);

pub(super) struct Collector {
    instance: Arc<Instance>,
    shown: watch::Sender<Shown>,
    /// The fleet as it was last seen.
    fleet: Mutex<Option<(Instant, Arc<Fleet>)>>,
    /// The points of the charts, the oldest first.
    points: Mutex<VecDeque<Value>>,
    seen: Mutex<Seen>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What pages show, as they are sent it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(pub(super) Option<Arc<str>>);

/// What was seen before.
#[derive(Default)]
struct Seen {
    rates: Rates,
    servers: Option<(Instant, ServerStatistics)>,
    latency: Option<ServerLatency>,
    census: Census,
    /// The verdict, and since when it is so (ms since 1970).
    verdict: Option<(Level, u64)>,
}

/// An open page.
pub(super) struct OpenPage {
    pub(super) shown: watch::Receiver<Shown>,
    /// The points so far.
    pub(super) history: Value,
}

impl Collector {
    pub(super) fn new(instance: Arc<Instance>) -> Arc<Self> {
        Arc::new(Self {
            instance,
            shown: watch::channel(Shown::default()).0,
            fleet: Mutex::default(),
            points: Mutex::default(),
            seen: Mutex::default(),
            task: Mutex::default(),
        })
    }

    /// Begins to collect for a page; nothing when too many are open.
    pub(super) fn open(self: &Arc<Self>) -> Option<OpenPage> {
        let mut task = self.task.lock();
        if self.shown.receiver_count() >= MOST_PAGES {
            return None;
        }
        let shown = self.shown.subscribe();
        if task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let collector = Arc::downgrade(self);
            *task = Some(AbortOnDropHandle::new(tokio::spawn(Self::run(collector))));
        }
        let points = self.points.lock().iter().cloned().collect();
        Some(OpenPage {
            shown,
            history: Value::Array(points),
        })
    }

    /// A page of the objects of a kind: of the fleet as the open pages see it, or looked at anew where none is open.
    ///
    /// # Errors
    /// [`Error`] when the other instances cannot be read.
    pub(super) async fn objects(
        &self,
        kind: &str,
        filter: &str,
        from: usize,
        count: usize,
    ) -> Result<Value, Error> {
        let known = self.fleet.lock().clone();
        let fresh = known.filter(|(at, _)| at.elapsed() < 3 * WATCHED);
        let fleet = match fresh {
            Some((_, fleet)) => fleet,
            None => {
                let (others, own) = tokio::join!(self.instance.others(), self.instance.publish());
                let mut instances = others?;
                instances.insert(0, own);
                // Rates need a look before.
                Arc::new(Fleet::of(instances, &mut Rates::default()))
            }
        };
        Ok(fleet.page(kind, filter, from, count))
    }

    /// Collects until no page is open any more.
    async fn run(collector: Weak<Self>) {
        loop {
            let begun = Instant::now();
            {
                let Some(collector) = collector.upgrade() else {
                    return;
                };
                {
                    // Under the lock of `open`, which otherwise might take this task for one that goes on.
                    let mut task = collector.task.lock();
                    if collector.shown.receiver_count() == 0 {
                        drop(task.take());
                        return;
                    }
                }
                let collect = AssertUnwindSafe(collector.collect()).catch_unwind();
                let text = match timeout(PATIENCE, collect).await {
                    Ok(Ok(view)) => view,
                    Ok(Err(_)) => json!({ "error": "putting the page together panicked" }),
                    Err(_) => json!({ "error": "putting the page together took too long" }),
                };
                collector
                    .shown
                    .send_replace(Shown(Some(text.to_string().into())));
            }
            sleep((begun + WATCHED).saturating_duration_since(Instant::now())).await;
        }
    }

    async fn collect(&self) -> Value {
        let statistics = Statistics::new(&self.instance.client);
        let is_census_due = self.seen.lock().census.is_due();
        let census = async {
            match is_census_due {
                true => Some(census::count(&self.instance.client).await),
                false => None,
            }
        };
        let (others, own, servers, latency, census) = tokio::join!(
            self.instance.others(),
            self.instance.publish(),
            statistics.servers(),
            statistics.latency(),
            census,
        );
        let (mut instances, unread) = match others {
            Ok(others) => (others, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        instances.insert(0, own);
        let mut seen = self.seen.lock();
        if let Some(census) = census {
            seen.census = census;
        }
        let sessions = seen.census.to_json();
        let fleet = Arc::new(Fleet::of(instances, &mut seen.rates));
        *self.fleet.lock() = Some((Instant::now(), Arc::clone(&fleet)));
        let traffic = seen.rates.traffic(&fleet.instances);
        let server = of_servers(&mut seen, latency.ok().flatten());
        let servers = servers.map_err(|error| error.to_string());
        let attention = attention::find(&fleet, servers.as_ref().ok());
        let point = point(&traffic, server, servers.as_ref().ok());
        let verdict = verdict(&mut seen, &fleet, attention.len(), servers.as_ref().err());
        if let Ok(servers) = &servers {
            seen.servers = Some((servers.at, servers.clone()));
        }
        drop(seen);
        {
            let mut points = self.points.lock();
            points.push_back(point.clone());
            while points.len() > MOST_POINTS {
                points.pop_front();
            }
        }
        let own = &self.instance;
        let instances = fleet.instances.iter();
        let instances = instances.filter(|instance| !(own.is_observer && instance.id == own.id));
        let processes: Vec<_> = instances
            .map(|instance| {
                json!({
                    "id": instance.id, "program": instance.program, "host": instance.host, "process": instance.process,
                    "started": instance.started, "at": instance.at, "objects": instance.objects.len(),
                    "clients": instance.clients.iter().map(|client| json!({
                        "name": client.name, "isConnected": client.is_connected, "topology": client.topology,
                        "breaker": client.breaker, "inFlight": client.in_flight, "calls": client.calls, "errors": client.errors,
                    })).collect::<Vec<_>>(),
                    "isThis": instance.id == own.id,
                })
            })
            .collect();
        let mut shown = fleet.shown();
        let rest = json!({
            "at": millis(SystemTime::now()),
            "verdict": verdict,
            "dependencies": fleet.dependencies.iter().map(super::fleet::Dependency::to_json).collect::<Vec<_>>(),
            "attention": attention.iter().map(attention::Attention::to_json).collect::<Vec<_>>(),
            "point": point,
            "sessions": sessions,
            "servers": super::servers::to_json(&servers),
            "slots": super::servers::slots_json(&self.instance.client),
            "processes": processes,
            "unread": unread,
        });
        if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
            shown.extend(rest);
        }
        shown
    }
}

/// How long commands took at the servers since the last look: p50 and p99.
fn of_servers(seen: &mut Seen, now: Option<ServerLatency>) -> Option<(Duration, Duration)> {
    let now = now?;
    let before = seen.latency.replace(now.clone())?;
    let since = now.since(&before);
    since.quantile(0.5).zip(since.quantile(0.99))
}

fn point(
    traffic: &Traffic,
    server: Option<(Duration, Duration)>,
    servers: Option<&ServerStatistics>,
) -> Value {
    let millis_of = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "t": millis(SystemTime::now()),
        "ops": (traffic.calls_per_second * 10.0).round() / 10.0,
        "errors": (traffic.errors_per_second * 10.0).round() / 10.0,
        "p50": traffic.p50.map(millis_of), "p99": traffic.p99.map(millis_of),
        "serverP50": server.map(|(p50, _)| millis_of(p50)), "serverP99": server.map(|(_, p99)| millis_of(p99)),
        "serverOps": servers.map(|servers| servers.total.ops_per_second),
        "memory": servers.map(|servers| servers.total.used_memory),
        "breaker": traffic.breaker,
    })
}

/// Is it well, and since when? In a sentence.
fn verdict(seen: &mut Seen, fleet: &Fleet, attention: usize, unanswered: Option<&String>) -> Value {
    let is = |status: &str| {
        let all = fleet.dependencies.iter();
        let such = all.filter(|dependency| dependency.worst.status == status);
        such.map(|dependency| &dependency.worst).collect::<Vec<_>>()
    };
    let (failed, warned) = (is("fail"), is("warn"));
    let level = match (failed.is_empty(), warned.is_empty() && attention == 0) {
        _ if unanswered.is_some() => Level::Bad,
        (false, _) => Level::Bad,
        (true, false) => Level::Warn,
        (true, true) => Level::Ok,
    };
    let named = |states: &[&super::published::DependencyState]| {
        let names = states.iter().map(|state| match state.cause.as_str() {
            "" => state.name.clone(),
            cause => format!("{} ({cause})", state.name),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let text = match level {
        Level::Bad if failed.is_empty() => "Redis does not answer".to_owned(),
        Level::Bad => format!("{} is down", named(&failed)),
        Level::Warn if !warned.is_empty() => {
            format!("It serves, with a warning about {}", named(&warned))
        }
        Level::Warn => match attention {
            1 => "It serves, and one thing needs attention".to_owned(),
            count => format!("It serves, and {count} things need attention"),
        },
        Level::Ok => "All is well".to_owned(),
    };
    let now = millis(SystemTime::now());
    let since = match seen.verdict {
        Some((before, since)) if before == level => since,
        Some(_) => now,
        // The first look: as the instances know it.
        None => {
            let of = |states: &[&super::published::DependencyState]| {
                states.iter().map(|state| state.since).min()
            };
            let well = fleet
                .dependencies
                .iter()
                .map(|dependency| dependency.worst.since)
                .max();
            of(&failed).or(of(&warned)).or(well).unwrap_or(now)
        }
    };
    seen.verdict = Some((level, since));
    json!({ "level": level.as_str(), "text": text, "since": since })
}
