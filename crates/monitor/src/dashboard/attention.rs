//! What needs attention, in sentences: from what the instances have published and what the servers say.

use serde_json::{Map, Value, json};

use super::fleet::{Fleet, Object};
use crate::statistics::ServerStatistics;

/// Patterns whose keys must not be deleted for want of memory.
const DURABLE: [&str; 6] = [
    "locks",
    "sessions",
    "topic",
    "write_behind",
    "election",
    "idempotent",
];
/// From which share of its limit memory needs attention.
const MUCH_MEMORY: f64 = 0.9;
/// The most rows.
const MOST: usize = 50;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    Warn,
    Bad,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Bad => "bad",
        }
    }
}

/// One thing that needs attention.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attention {
    pub(super) level: Level,
    pub(super) text: String,
    /// The panel that tells more.
    pub(super) panel: &'static str,
    pub(super) kind: String,
    pub(super) name: String,
}

impl Attention {
    pub(super) fn to_json(&self) -> Value {
        let Self {
            level,
            text,
            panel,
            kind,
            name,
        } = self;
        json!({ "level": level.as_str(), "text": text, "panel": panel, "kind": kind, "name": name })
    }
}

/// Everything that needs attention, the worst first.
pub(super) fn find(fleet: &Fleet, servers: Option<&ServerStatistics>) -> Vec<Attention> {
    let mut found = Vec::new();
    for object in &fleet.objects {
        of_object(object, &mut found);
    }
    if let Some(servers) = servers {
        of_servers(fleet, servers, &mut found);
    }
    for instance in &fleet.instances {
        if instance.left_out > 0 {
            let (count, program) = (instance.left_out, &instance.program);
            let text = format!(
                "{count} objects of {program} ({}) have no room here",
                instance.host
            );
            found.push(of("process", &instance.id, "processes", Level::Warn, text));
        }
    }
    found.sort_by_key(|attention| std::cmp::Reverse(attention.level));
    found.truncate(MOST);
    found
}

fn of(kind: &str, name: &str, panel: &'static str, level: Level, text: String) -> Attention {
    Attention {
        level,
        text,
        panel,
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn of_object(object: &Object, found: &mut Vec<Attention>) {
    let (kind, name) = (object.kind.as_str(), object.name.as_str());
    let count = |facts: &Map<String, Value>, fact: &str| facts.get(fact).and_then(Value::as_u64);
    let mut add = |panel, level, text| found.push(of(kind, name, panel, level, text));
    match kind {
        "breaker" => {
            let open = object.each.iter().filter(|(_, facts)| {
                let state = facts.get("state").and_then(Value::as_str);
                matches!(state, Some("Open" | "ForcedOpen"))
            });
            let open = open.count();
            if open > 0 {
                let text = format!(
                    "The circuit breaker of {name} is open in {}",
                    processes(open)
                );
                add("traffic", Level::Bad, text);
            }
        }
        "topic" => {
            let measured = |fact: &str| count(&object.measured, fact).unwrap_or_default();
            let dead = measured("dead_letters");
            if dead > 0 {
                let text = format!("{} of {name}", counted(dead, "dead letter"));
                add("topics", Level::Bad, text);
            }
            let waiting = measured("lag") + measured("pending");
            if waiting > 0 && count(&object.measured, "consumers") == Some(0) {
                let text = format!(
                    "{name} has no consumers, and {}",
                    counted(waiting, "message waiting")
                );
                add("topics", Level::Bad, text);
            }
            if object.measured.get("is_paused") == Some(&json!(true)) {
                add("topics", Level::Warn, format!("{name} is paused"));
            }
            if object.lost_lately > 0 {
                let text = format!(
                    "{name}: {} taken by another consumer",
                    counted(object.lost_lately, "message")
                );
                add("topics", Level::Warn, text);
            }
        }
        "write_behind" => {
            // Each process counts what stands at the server: the largest is the latest or as good.
            let dead = object
                .each
                .iter()
                .filter_map(|(_, facts)| count(facts, "dead_letters"))
                .max();
            if let Some(dead) = dead.filter(|&dead| dead > 0) {
                let text = format!(
                    "{} of the write-behind queue {name}",
                    counted(dead, "dead letter")
                );
                add("caches", Level::Bad, text);
            }
        }
        "locks" | "semaphore" | "redlock" | "idempotent" if object.lost_lately > 0 => {
            let what = if kind == "semaphore" {
                "permit"
            } else {
                "lock"
            };
            let text = format!("{} lost by {name}", counted(object.lost_lately, what));
            add("locks", Level::Warn, text);
        }
        "limiter" if object.facts.get("is_outage") == Some(&json!(true)) => {
            let text = format!("The limiter {name} decides without Redis");
            add("limits", Level::Warn, text);
        }
        "alerts" => {
            for item in &object.items {
                let text = |fact: &str| item.get(fact).and_then(Value::as_str).unwrap_or_default();
                let (rule, message) = (text("rule"), text("message"));
                let level = match text("severity") {
                    "critical" => Level::Bad,
                    _ => Level::Warn,
                };
                add(
                    "traffic",
                    level,
                    format!("Alert {rule}, {}: {message}", text("subject")),
                );
            }
        }
        _ => {}
    }
    if !object.measure_error.is_empty() {
        let text = format!(
            "{kind} {name} could not be measured: {}",
            object.measure_error
        );
        let panel = if kind == "topic" {
            "topics"
        } else {
            "processes"
        };
        found.push(of(kind, name, panel, Level::Warn, text));
    }
}

fn of_servers(fleet: &Fleet, servers: &ServerStatistics, found: &mut Vec<Attention>) {
    let mut add = |name: &str, level, text| found.push(of("server", name, "servers", level, text));
    for (name, error) in &servers.failed {
        add(
            name,
            Level::Bad,
            format!("The server {name} does not answer: {error}"),
        );
    }
    let durable = fleet
        .objects
        .iter()
        .find(|object| DURABLE.contains(&object.kind.as_str()));
    for (name, info) in &servers.servers {
        let policy = info.maxmemory_policy.as_str();
        if let (true, Some(object)) = (info.may_evict() && policy.starts_with("allkeys"), durable) {
            let text = format!(
                "The server {name} may delete keys that must last, such as those of {} {}: its policy is {policy}",
                object.kind, object.name
            );
            add(name, Level::Bad, text);
        }
        if let Some(share) = info.memory_share().filter(|&share| share > MUCH_MEMORY) {
            let text = format!(
                "The server {name} uses {:.0} % of its memory limit",
                share * 100.0
            );
            add(name, Level::Warn, text);
        }
        if info.is_loading {
            add(
                name,
                Level::Bad,
                format!("The server {name} is loading its data"),
            );
        }
        if !info.is_persisting {
            add(
                name,
                Level::Warn,
                format!("The server {name} could not save its data"),
            );
        }
        for replica in info.replicas.iter().filter(|replica| !replica.is_online) {
            add(
                name,
                Level::Warn,
                format!("The replica {} of {name} is not online", replica.address),
            );
        }
    }
}

fn processes(count: usize) -> String {
    match count {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    }
}

/// `1 dead letter`, `2 dead letters`, `2 messages waiting`.
fn counted(count: u64, what: &str) -> String {
    match (count, what.split_once(' ')) {
        (1, _) => format!("1 {what}"),
        (count, Some((noun, rest))) if rest == "waiting" => format!("{count} {noun}s {rest}"),
        (count, _) => format!("{count} {what}s"),
    }
}
