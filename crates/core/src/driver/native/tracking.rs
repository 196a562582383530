//! [`Tracking`]: what the server tells a connection of changed keys (`CLIENT TRACKING`).
//!
//! Servers refuse prefixes that overlap on one connection, but subscribers know nothing of one
//! another. So a connection tracks the shortest prefixes that cover all that is wanted on it, and
//! the registry gives each subscriber what it asked for.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::command::Command;

/// What one connection tracks.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracking {
    wanted: BTreeSet<Bytes>,
    /// None of them overlap.
    tracked: BTreeSet<Bytes>,
}

/// What to send to get there.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) commands: Vec<Command>,
    /// Whether changes of what was tracked before may be forgotten on the way.
    pub(super) has_gap: bool,
}

impl Tracking {
    /// Tracks these, too.
    pub(super) fn add<'p>(&mut self, prefixes: impl Iterator<Item = &'p Bytes>) -> Step {
        self.wanted.extend(prefixes.cloned());
        let cover = cover(&self.wanted, &self.tracked);
        let new: BTreeSet<_> = cover.difference(&self.tracked).cloned().collect();
        let is_replaced = self.tracked.difference(&cover).next().is_some();
        self.tracked = cover;
        let commands = if is_replaced {
            // The server takes no prefix that covers another, and takes none back. What it has
            // gathered for the old ones and not sent yet is lost.
            vec![
                Command::new("MULTI"),
                off(),
                on(&self.tracked),
                Command::new("EXEC"),
            ]
        } else if new.is_empty() {
            Vec::new()
        } else {
            vec![on(&new)]
        };
        Step {
            commands,
            has_gap: is_replaced,
        }
    }

    /// Wants these no more. The server goes on with them as long as anything is tracked.
    pub(super) fn remove<'p>(&mut self, prefixes: impl Iterator<Item = &'p Bytes>) -> Step {
        for prefix in prefixes {
            self.wanted.remove(prefix);
        }
        let is_over = self.wanted.is_empty() && !self.tracked.is_empty();
        if is_over {
            self.tracked.clear();
        }
        Step {
            commands: is_over.then(off).into_iter().collect(),
            has_gap: false,
        }
    }
}

/// The shortest of all prefixes. Sorted, one stands before whatever starts with it.
fn cover(wanted: &BTreeSet<Bytes>, tracked: &BTreeSet<Bytes>) -> BTreeSet<Bytes> {
    let mut cover: Vec<Bytes> = Vec::new();
    for prefix in wanted.union(tracked) {
        if cover.last().is_none_or(|last| !prefix.starts_with(last)) {
            cover.push(prefix.clone());
        }
    }
    cover.into_iter().collect()
}

/// Without `NOLOOP`: other users of this process's other connections count as others anyway.
fn on(prefixes: &BTreeSet<Bytes>) -> Command {
    let on = Command::new("CLIENT")
        .arg("TRACKING")
        .arg("ON")
        .arg("BCAST");
    prefixes
        .iter()
        .fold(on, |on, prefix| on.arg("PREFIX").arg(prefix))
}

fn off() -> Command {
    Command::new("CLIENT").arg("TRACKING").arg("OFF")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(step: &Step) -> Vec<String> {
        let text = |command: &Command| {
            let args: Vec<_> = command.iter().map(String::from_utf8_lossy).collect();
            format!("{} {}", command.name(), args.join(" "))
        };
        step.commands.iter().map(text).collect()
    }

    fn all(prefixes: &[&'static str]) -> Vec<Bytes> {
        prefixes.iter().map(|&prefix| prefix.into()).collect()
    }

    #[test]
    fn prefixes_are_added_and_a_broader_one_takes_their_place() {
        let mut tracking = Tracking::default();
        let mut add = |prefixes: &[&'static str]| {
            let step = tracking.add(all(prefixes).iter());
            (sent(&step), step.has_gap)
        };
        let on = |rest: &str| format!("CLIENT TRACKING ON BCAST PREFIX {rest}");
        assert_eq!(add(&["b:x:", "a:"]), (vec![on("a: PREFIX b:x:")], false));
        assert_eq!(add(&["a:", "a:1", "b:x:"]), (vec![], false));
        assert_eq!(add(&["c:"]), (vec![on("c:")], false));
        let anew = [
            "MULTI ",
            "CLIENT TRACKING OFF",
            &on("a: PREFIX b: PREFIX c:"),
            "EXEC ",
        ];
        let anew: Vec<_> = anew.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(add(&["b:"]), (anew, true));
    }

    #[test]
    fn what_is_not_wanted_is_tracked_until_nothing_is() {
        let mut tracking = Tracking::default();
        tracking.add(all(&["a:", "b:"]).iter());
        assert!(sent(&tracking.remove(all(&["a:"]).iter())).is_empty());
        // It never went away, so the server must not be asked for it twice.
        assert!(sent(&tracking.add(all(&["a:1"]).iter())).is_empty());
        let over = tracking.remove(all(&["b:", "a:1"]).iter());
        assert_eq!(sent(&over), ["CLIENT TRACKING OFF"]);
        assert!(sent(&tracking.remove(all(&["b:"]).iter())).is_empty());
        assert_eq!(sent(&tracking.add(all(&["a:"]).iter())).len(), 1);
    }
}
