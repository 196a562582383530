//! [`Registry`]: who listens to what, and whether the server knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "native")]
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Name;
#[cfg(feature = "native")]
use super::NameKind;
#[cfg(feature = "fred")]
use crate::push::GapReason;
use crate::push::{Loss, Push, PushSink};

/// Who listens to what. The connection's read side looks here for every message.
#[derive(Default)]
pub(in crate::driver) struct Registry {
    listeners: Mutex<HashMap<Name, Listeners>>,
    lost: Notify,
    /// How often the server has ended a subscription by itself.
    losses: AtomicU64,
}

#[derive(Default)]
struct Listeners {
    sinks: Vec<Listener>,
    standing: Standing,
    /// The number of its last loss.
    lost_at: u64,
}

/// Who listens to a name.
pub(in crate::driver) struct Listener {
    pub(in crate::driver) sink: PushSink,
    /// It was told that the name does not stand.
    pub(in crate::driver) loss: Option<Loss>,
}

/// What the server knows of a name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is being asked, and who subscribes waits for its answer.
    #[default]
    Asked,
    /// It has confirmed it on the present connection.
    Confirmed,
    /// It knew once, or another server did: it is to be asked again.
    Lost,
}

impl Registry {
    /// Adds a listener; gives the names that the server has not confirmed.
    pub(in crate::driver) fn add(&self, names: &[Name], sink: &PushSink) -> Vec<Name> {
        let mut listeners = self.listeners.lock();
        let mut unconfirmed = Vec::new();
        for name in names {
            let known = listeners.entry(name.clone()).or_default();
            known.add(sink);
            if known.standing != Standing::Confirmed && !unconfirmed.contains(name) {
                unconfirmed.push(name.clone());
            }
        }
        unconfirmed
    }

    /// The moment before the server is asked, for [`confirm`](Self::confirm).
    pub(super) fn now(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// The server, asked at `asked`, has confirmed these names. Who listened to one that had been
    /// lost is told. One that was lost since then stays so.
    pub(super) fn confirm(&self, names: &[Name], asked: u64) {
        let mut listeners = self.listeners.lock();
        let mut over = Vec::new();
        for name in names {
            let Some(known) = listeners.get_mut(name) else {
                continue;
            };
            if known.lost_at > asked {
                continue;
            }
            known.standing = Standing::Confirmed;
            over.extend(known.sinks.iter_mut().filter_map(|one| one.loss.take()));
        }
        over.into_iter().for_each(Loss::end);
    }

    /// The connection is gone, and with it what the server knew. Who listens is told at once.
    pub(super) fn lose_all(&self) {
        for known in self.listeners.lock().values_mut() {
            known.lose();
        }
    }

    /// Waits until a name was lost, or taken over.
    pub(super) async fn something_lost(&self) {
        self.lost.notified().await;
    }

    pub(super) fn lost(&self) -> Vec<Name> {
        let listeners = self.listeners.lock();
        let lost = listeners
            .iter()
            .filter(|(_, known)| known.standing == Standing::Lost);
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets listeners that are gone; gives the names that nobody listens to any more.
    pub(super) fn prune(&self) -> Vec<Name> {
        let mut abandoned = Vec::new();
        self.listeners.lock().retain(|name, known| {
            known.sinks.retain(|one| !one.sink.is_closed());
            if known.sinks.is_empty() {
                abandoned.push(name.clone());
            }
            !known.sinks.is_empty()
        });
        abandoned
    }

    /// Takes a listener off these names.
    pub(super) fn detach(&self, names: &[Name], sink: &PushSink) {
        self.listeners.lock().retain(|name, known| {
            if names.contains(name) {
                known.sinks.retain(|one| !one.sink.same_queue(sink));
            }
            !known.sinks.is_empty()
        });
    }

    pub(super) fn clear(&self) {
        self.listeners.lock().clear();
    }

    /// Ends the streams of all who listen to a name, whatever else they listen to.
    pub(super) fn end(&self, name: &Name) {
        let ended = self.listeners.lock().remove(name);
        for one in ended.iter().flat_map(|known| &known.sinks) {
            one.sink.end();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.lock().is_empty()
    }

    /// Whether anybody listens to `name`.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.listeners.lock().contains_key(name)
    }

    /// Tells every listener, once, that it may have missed something.
    #[cfg(feature = "fred")]
    pub(in crate::driver) fn announce(&self, reason: GapReason) {
        let mut told = Vec::new();
        for known in self.listeners.lock().values() {
            known.each(&mut told, |sink| {
                sink.send(Push::Gap(reason));
            });
        }
    }

    /// Gives `message` to who listens to `name`.
    pub(in crate::driver) fn deliver(&self, name: &Name, message: &Push) {
        if let Some(known) = self.listeners.lock().get(name) {
            for one in &known.sinks {
                one.sink.send(message.clone());
            }
        }
    }
}

/// What only a driver needs that tracks keys and follows slots.
#[cfg(feature = "native")]
impl Registry {
    /// Adds a listener to names that the server is still to be asked for, and tells it so.
    pub(super) fn adopt(&self, names: &[Name], sink: &PushSink) {
        let mut listeners = self.listeners.lock();
        for name in names {
            let known = listeners.entry(name.clone()).or_default();
            known.add(sink);
            known.lose();
        }
        drop(listeners);
        self.lost.notify_one();
    }

    /// The server has ended a subscription by itself. Whether anybody still listens.
    pub(in crate::driver) fn lose(&self, name: &Name) -> bool {
        match self.listeners.lock().get_mut(name) {
            Some(known) => {
                known.lose();
                known.lost_at = self.losses.fetch_add(1, Ordering::AcqRel) + 1;
            }
            None => return false,
        }
        self.lost.notify_one();
        true
    }

    /// Takes the names that `choose` wants off, with those who listen to them.
    pub(super) fn take(&self, choose: impl Fn(&Name) -> bool) -> Vec<(Name, Vec<Listener>)> {
        let mut listeners = self.listeners.lock();
        let chosen = listeners.extract_if(|name, _| choose(name));
        chosen.map(|(name, known)| (name, known.sinks)).collect()
    }

    /// Whether `sink` listens to all of `names`.
    pub(super) fn listens(&self, names: &[Name], sink: &PushSink) -> bool {
        let listeners = self.listeners.lock();
        names.iter().all(|name| {
            let known = listeners.get(name);
            known.is_some_and(|known| known.has(sink))
        })
    }

    /// Tells who listens to changes of keys that these have changed; `None`: that all may have.
    pub(in crate::driver) fn invalidate(&self, keys: Option<&[Bytes]>) {
        let listeners = self.listeners.lock();
        let of_keys = listeners
            .iter()
            .filter(|(name, _)| name.kind == NameKind::Prefix);
        let mut told = Vec::new();
        for (name, known) in of_keys {
            let Some(keys) = keys else {
                known.each(&mut told, |sink| {
                    sink.send(Push::Invalidate(None));
                });
                continue;
            };
            let its = keys.iter().filter(|key| key.starts_with(&name.bytes));
            let its: Vec<Bytes> = its.cloned().collect();
            if !its.is_empty() {
                for one in &known.sinks {
                    one.sink.send(Push::Invalidate(Some(its.clone())));
                }
            }
        }
    }

    /// The server forgot changes of keys for a moment: who listened to them is told.
    pub(in crate::driver) fn prefixes_had_a_gap(&self) {
        let mut told = Vec::new();
        for (name, known) in &*self.listeners.lock() {
            // Who is waiting for the server's first answer has missed nothing.
            if name.kind == NameKind::Prefix && known.standing == Standing::Confirmed {
                known.each(&mut told, PushSink::interrupted);
            }
        }
    }
}

impl Listeners {
    fn add(&mut self, sink: &PushSink) {
        if !self.has(sink) {
            self.sinks.push(Listener {
                sink: sink.clone(),
                loss: None,
            });
        }
    }

    fn has(&self, sink: &PushSink) -> bool {
        self.sinks.iter().any(|known| known.sink.same_queue(sink))
    }

    fn lose(&mut self) {
        self.standing = Standing::Lost;
        for one in &mut self.sinks {
            one.loss.get_or_insert_with(|| Loss::of(&one.sink));
        }
    }

    /// Does something with each that is not among those `told` already. A listener to many names
    /// stands in the registry many times; saying it again does no harm, but costs room in its queue.
    fn each(&self, told: &mut Vec<PushSink>, tell: impl Fn(&PushSink)) {
        for one in &self.sinks {
            if !told.iter().any(|known| known.same_queue(&one.sink)) {
                tell(&one.sink);
                told.push(one.sink.clone());
            }
        }
    }
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use crate::push::{GapReason, PushStream, push_channel};

    fn name(kind: NameKind, text: &'static str) -> Name {
        Name {
            kind,
            bytes: text.into(),
        }
    }

    async fn all(sink: PushSink, registry: Registry, mut stream: PushStream) -> Vec<Push> {
        drop((sink, registry));
        let mut seen = Vec::new();
        while let Some(push) = stream.next().await {
            seen.push(push);
        }
        seen
    }

    #[tokio::test]
    async fn a_gap_is_told_once_and_only_of_what_was_lost() {
        let registry = Registry::default();
        let (a, b) = (name(NameKind::Channel, "a"), name(NameKind::Channel, "b"));
        let both = [a.clone(), b.clone(), a.clone()];
        let (sink, stream) = push_channel(8);
        assert_eq!(registry.add(&both, &sink).len(), 2);
        registry.confirm(&both, registry.now());
        assert!(registry.add(&both, &sink).is_empty());
        registry.lose_all();
        assert_eq!(registry.lost().len(), 2);
        let asked = registry.now();
        registry.confirm(&both, asked);
        assert!(registry.lose(&b) && registry.lost() == std::slice::from_ref(&b));
        registry.confirm(&both, asked);
        assert_eq!(
            registry.lost(),
            std::slice::from_ref(&b),
            "it was lost after that answer"
        );
        registry.confirm(&[b], registry.now());
        registry.deliver(&a, &Push::Invalidate(None));
        let [lost, again] = [GapReason::Lost, GapReason::Reconnected].map(Push::Gap);
        let expected = [
            lost.clone(),
            again.clone(),
            lost,
            again,
            Push::Invalidate(None),
        ];
        assert_eq!(all(sink, registry, stream).await, expected);
    }

    #[tokio::test]
    async fn a_loss_is_told_before_anything_that_comes_after_it() {
        let registry = Registry::default();
        let (a, b) = (name(NameKind::Channel, "a"), name(NameKind::Channel, "b"));
        let both = [a.clone(), b.clone()];
        let (sink, mut stream) = push_channel(8);
        registry.add(&both, &sink);
        registry.confirm(&both, registry.now());
        registry.lose_all();
        assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lost)));
        // The server takes one name, and its messages, before the other.
        registry.confirm(std::slice::from_ref(&a), registry.now());
        registry.deliver(&a, &Push::Invalidate(None));
        registry.confirm(&[b], registry.now());
        let expected = [Push::Invalidate(None), Push::Gap(GapReason::Reconnected)];
        assert_eq!(all(sink, registry, stream).await, expected);
    }

    #[tokio::test]
    async fn a_name_that_is_refused_for_good_ends_the_stream_with_all_its_names() {
        let registry = Registry::default();
        let both = [name(NameKind::Channel, "a"), name(NameKind::Channel, "b")];
        let (sink, mut stream) = push_channel(8);
        registry.add(&both, &sink);
        registry.confirm(&both, registry.now());
        registry.end(&both[0]);
        assert_eq!(stream.next().await, None);
        assert_eq!(registry.prune(), [both[1].clone()]);
    }

    #[tokio::test]
    async fn changes_go_to_those_whose_prefix_the_key_has() {
        let registry = Registry::default();
        let prefixes = [name(NameKind::Prefix, "x:"), name(NameKind::Prefix, "y:")];
        let (sink, stream) = push_channel(8);
        registry.add(&prefixes, &sink);
        registry.prefixes_had_a_gap();
        registry.confirm(&prefixes, registry.now());
        let keys: [Bytes; 3] = ["x:1".into(), "z:1".into(), "x:2".into()];
        registry.invalidate(Some(&keys));
        registry.invalidate(Some(&keys[1..2]));
        registry.invalidate(None);
        registry.prefixes_had_a_gap();
        let expected = [
            Push::Invalidate(Some(vec!["x:1".into(), "x:2".into()])),
            Push::Invalidate(None),
            Push::Gap(GapReason::Reconnected),
        ];
        assert_eq!(all(sink, registry, stream).await, expected);
    }
}
