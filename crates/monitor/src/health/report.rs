//! [`Report`]: what a look at the health found, and how it is told as health+json.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::cause::Cause;
use super::status::Status;

/// What a look at the health found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The whole: the worst of the checks, where a soft dependency that fails is a warning.
    pub status: Status,
    /// Each check.
    pub checks: Vec<Check>,
    /// When the look began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// One check.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Check {
    /// The dependency's or the task's name.
    pub component: Box<str>,
    /// What was looked at: `ping`, `write`, `breaker`, …
    pub measurement: &'static str,
    /// The server, where there is one.
    pub server: Option<Arc<str>>,
    /// How it is.
    pub status: Status,
    /// Whether the whole is failing when this fails.
    pub is_hard: bool,
    /// What was measured.
    pub observed: Observed,
    /// Why it did not pass.
    pub cause: Option<Cause>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Observed {
    /// Nothing: the check failed before.
    Nothing,
    /// How long the answer took.
    Time(Duration),
    /// A number with its unit.
    Number(f64, &'static str),
    /// A word, such as a state.
    Text(Box<str>),
}

impl Report {
    pub(crate) fn new(checks: Vec<Check>, at: SystemTime, took: Duration) -> Self {
        let status = checks.iter().map(Check::weight).max();
        Self {
            status: status.unwrap_or(Status::Pass),
            checks,
            at,
            took,
        }
    }

    /// The checks of one component.
    pub fn of<'r>(&'r self, component: &'r str) -> impl Iterator<Item = &'r Check> {
        let checks = self.checks.iter();
        checks.filter(move |check| &*check.component == component)
    }

    /// The first cause of the worst kind, which is what an operator wants to read first.
    pub fn worst(&self) -> Option<&Check> {
        let troubled = self.checks.iter().filter(|check| check.cause.is_some());
        // Of equals `max_by_key` gives the last.
        troubled
            .rev()
            .max_by_key(|check| (check.weight(), check.status))
    }

    /// As the body of an answer of the type `application/health+json`.
    ///
    /// The format is that of the Internet-Draft `draft-inadarei-api-health-check-06`, which has expired:
    /// many tools read it, and no standard will come of it. With [`Detail::Full`] it says which servers
    /// there are and what they said; the short form is for everybody.
    pub fn to_json(&self, detail: Detail) -> Value {
        let time = humantime::format_rfc3339_millis(self.at).to_string();
        let mut checks = Map::new();
        for check in &self.checks {
            let name = format!("{}:{}", check.component, check.measurement);
            let entries = checks
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(entries) = entries {
                entries.push(check.to_json(&time, detail));
            }
        }
        let mut body = Map::new();
        body.insert("status".to_owned(), json!(self.status.as_str()));
        if let Some(Check {
            component,
            cause: Some(cause),
            ..
        }) = self.worst()
        {
            body.insert("output".to_owned(), json!(format!("{component}: {cause}")));
        }
        body.insert("checks".to_owned(), Value::Object(checks));
        Value::Object(body)
    }
}

/// How much an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// How each check is and the kind of trouble.
    Short,
    /// Servers' addresses and the words of errors too.
    Full,
}

impl Check {
    pub(crate) fn new(component: &str, measurement: &'static str, is_hard: bool) -> Self {
        Self {
            component: component.into(),
            measurement,
            server: None,
            status: Status::Pass,
            is_hard,
            observed: Observed::Nothing,
            cause: None,
        }
    }

    pub(crate) fn on(mut self, server: &Arc<str>) -> Self {
        self.server = Some(Arc::clone(server));
        self
    }

    pub(crate) fn observed(mut self, observed: Observed) -> Self {
        self.observed = observed;
        self
    }

    pub(crate) fn failed(mut self, cause: Cause) -> Self {
        self.status = Status::Fail;
        self.cause = Some(cause);
        self
    }

    pub(crate) fn warned(mut self, cause: Cause) -> Self {
        self.status = Status::Warn;
        self.cause = Some(cause);
        self
    }

    /// What it means for the whole.
    pub(crate) fn weight(&self) -> Status {
        match self.is_hard {
            true => self.status,
            false => self.status.min(Status::Warn),
        }
    }

    fn to_json(&self, time: &str, detail: Detail) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| {
            entry.insert(name.to_owned(), value);
        };
        if let (Detail::Full, Some(server)) = (detail, &self.server) {
            put("componentId", json!(&**server));
        }
        let kind = if self.server.is_some() {
            "datastore"
        } else {
            "component"
        };
        put("componentType", json!(kind));
        match &self.observed {
            Observed::Nothing => {}
            Observed::Time(time) => {
                // Microseconds are exact enough, and short.
                put(
                    "observedValue",
                    json!((time.as_secs_f64() * 1e6).round() / 1e3),
                );
                put("observedUnit", json!("ms"));
            }
            Observed::Number(number, unit) => {
                put("observedValue", json!(number));
                put("observedUnit", json!(unit));
            }
            Observed::Text(text) => put("observedValue", json!(text)),
        }
        put("status", json!(self.status.as_str()));
        put("time", json!(time));
        if let Some(cause) = &self.cause {
            let output = match (detail, &cause.error) {
                (Detail::Full, Some(error)) => format!("{cause} ({error})"),
                _ => cause.to_string(),
            };
            put("output", json!(output));
            put("cause", json!(cause.kind.as_str()));
        }
        Value::Object(entry)
    }
}
