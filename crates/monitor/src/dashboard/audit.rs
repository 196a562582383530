//! The audit: who did what, when, and how it ended. Streams of bounded length.

use bytes::Bytes;
use redkit_core::{Client, Command, Error, Invocation, Key, Script};
use serde_json::{Value, json};

use super::keys::Keys;

static ADD: Script = Script::new(include_str!("../scripts/dashboard_audit.lua"));

/// How many entries are kept, about.
const KEPT: u32 = 10_000;
const REFUSALS_KEPT: u32 = 1_000;
/// How many a page shows.
const SHOWN: u32 = 200;
/// The longest text of an entry.
const LONGEST: usize = 512;

/// An action that is wanted, for the audit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act<'a> {
    pub(super) viewer: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) action: &'a str,
    pub(super) argument: &'a str,
}

#[derive(Debug, Clone)]
pub(super) struct Audit {
    client: Client,
    keys: Keys,
}

impl Audit {
    pub(super) fn new(client: &Client, keys: &Keys) -> Self {
        Self {
            client: client.clone(),
            keys: keys.clone(),
        }
    }

    /// Notes that an action begins; its outcome names this entry.
    ///
    /// # Errors
    /// [`Error`] when it could not be noted: the action must not be done then.
    pub(super) async fn begin(&self, act: Act<'_>) -> Result<String, Error> {
        let add = add(&self.keys.audit(), KEPT, act);
        self.client.eval(add.arg("outcome").arg("begun")).await
    }

    /// Notes how an action ended.
    pub(super) async fn end(&self, begun: &str, act: Act<'_>, outcome: &str, text: &str) {
        let add = add(&self.keys.audit(), KEPT, act);
        let add = add.arg("outcome").arg(outcome);
        let add = add.arg("text").arg(shortened(text)).arg("begun").arg(begun);
        if let Err(error) = self.client.eval::<String>(add).await {
            let Act { viewer, action, .. } = act;
            tracing::error!(target: "redkit::monitor", %error, viewer, action, outcome, "an outcome is missing in the audit");
        }
    }

    /// Notes an action for which there was no right.
    pub(super) async fn refuse(&self, act: Act<'_>, why: &str) {
        let Act {
            viewer,
            kind,
            name,
            action,
            ..
        } = act;
        tracing::warn!(target: "redkit::monitor", viewer, kind, name, action, why, "an action was refused");
        let add = add(&self.keys.refusals(), REFUSALS_KEPT, act);
        let add = add.arg("outcome").arg("refused").arg("text").arg(why);
        if let Err(error) = self.client.eval::<String>(add).await {
            tracing::error!(target: "redkit::monitor", %error, "a refusal is missing in the audit");
        }
    }

    /// The latest entries, the newest first.
    ///
    /// # Errors
    /// [`Error`] when they could not be read.
    pub(super) async fn latest(&self) -> Result<Value, Error> {
        let read = |key: Key| {
            let read = Command::new("XREVRANGE").key(key).arg("+").arg("-");
            read.arg("COUNT").arg(SHOWN).idempotent(true)
        };
        let both = vec![read(self.keys.audit()), read(self.keys.refusals())];
        let mut entries = Vec::new();
        for reply in self.client.pipeline(both).await? {
            let reply = reply.map_err(|error| Error::Call {
                command: "XREVRANGE".into(),
                error,
            })?;
            let Ok(rows) = reply.to::<Vec<(String, Vec<Bytes>)>>() else {
                continue;
            };
            entries.extend(rows.into_iter().map(|(id, fields)| entry(&id, &fields)));
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry["at"].as_u64()));
        entries.truncate(SHOWN as usize);
        Ok(json!(entries))
    }
}

fn add(key: &Key, kept: u32, act: Act<'_>) -> Invocation {
    let Act {
        viewer,
        kind,
        name,
        action,
        argument,
    } = act;
    let add = ADD.invoke([key]).arg(kept);
    let fields = [
        ("viewer", viewer),
        ("kind", kind),
        ("name", name),
        ("action", action),
        ("argument", argument),
    ];
    let fields = fields.into_iter();
    fields.fold(add, |add, (field, text)| {
        add.arg(field).arg(shortened(text))
    })
}

fn entry(id: &str, fields: &[Bytes]) -> Value {
    let at = id.split('-').next().and_then(|at| at.parse::<u64>().ok());
    let mut entry = json!({ "id": id, "at": at });
    if let Some(entry) = entry.as_object_mut() {
        for pair in fields.chunks_exact(2) {
            if let [name, value] = pair {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                entry.insert(text(name), json!(text(value)));
            }
        }
    }
    entry
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
