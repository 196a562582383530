//! A look of one instance: what it changes here, what is told, and what others have left open.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use redkit_core::inspection::{Inspect, Snapshot};
use tokio::time::Instant;

use super::Shared;
use super::alert::{Alert, AlertState, Context};
use super::ending::Ending;
use super::engine::{Standing, Transition};
use super::observation::Observation;

/// How often the notes of deliveries are prolonged: much more often than they would be forgotten.
const REMEMBER_EVERY: Duration = Duration::from_secs(3_600);

impl Shared {
    pub(super) async fn compare(&self) {
        let seen = Observation::make(
            &self.health,
            &self.figures,
            self.needs_servers,
            self.needs_measures,
            self.timeout,
        )
        .await;
        let now = Instant::now();
        let changes = {
            let mut engine = self.engine.lock();
            let changes = engine.evaluate(now, &seen);
            for (index, gauge) in self.firing.iter().enumerate() {
                let firing = engine.firing().filter(|(rule, ..)| *rule == index).count();
                gauge.set(u32::try_from(firing).unwrap_or(u32::MAX));
            }
            changes
        };
        for change in changes {
            self.tell(change, now).await;
        }
        self.end_all(now, self.fleet.alive()).await;
        self.go_on_firing().await;
        match self.fleet.look().await {
            Some(open) => self.end_what_was_left_open(open, now).await,
            // Others may have begun anew to fire when Redis is back.
            None => self.left_open.lock().clear(),
        }
        self.evaluations.increment(1);
    }

    /// Gives a change to the sinks; an end to the shared ones only once it is the fleet's.
    async fn tell(&self, change: Transition, now: Instant) {
        let Some(mut alert) = self.alert(&change, now) else {
            return;
        };
        let id = format!("{}/{}", alert.rule, alert.subject);
        let episode = match change.state {
            AlertState::Firing => {
                self.end_before(&id).await;
                let episode = self.fleet.open(&id, 0).await;
                self.episodes.lock().insert(id.clone(), episode);
                episode
            }
            AlertState::Resolved => self.episodes.lock().remove(&id).unwrap_or_default(),
        };
        alert.key = format!("{}/{id}/{episode}/{}", self.name, change.state.as_str());
        if let Some([firing, resolved]) = self.fired.get(change.rule) {
            match change.state {
                AlertState::Firing => firing.increment(1),
                AlertState::Resolved => resolved.increment(1),
            }
        }
        let is_firing = change.state == AlertState::Firing;
        for outlet in &*self.outlets.lock() {
            if is_firing || !outlet.is_shared() {
                outlet.send(&alert);
            }
        }
        if !is_firing {
            let ending = Ending {
                alert,
                episode,
                since: now,
                is_told: false,
            };
            self.endings.lock().insert(id, ending);
        }
    }

    /// Says that this instance is still in its episodes.
    async fn go_on_firing(&self) {
        let episodes: Vec<_> = {
            let episodes = self.episodes.lock();
            episodes
                .iter()
                .map(|(id, episode)| (id.clone(), *episode))
                .collect()
        };
        let mut is_another = HashSet::new();
        for (id, episode) in episodes {
            let now = self.fleet.open(&id, episode).await;
            if let Some(known) = self.episodes.lock().get_mut(&id) {
                *known = now;
            }
            if now != episode {
                is_another.insert(id);
            }
        }
        // An end was told while this instance was not heard from; or this instance has joined others, who have told it.
        for alert in self.firing() {
            if is_another.contains(&format!("{}/{}", alert.rule, alert.subject)) {
                self.send_shared(&alert);
            }
        }
        self.remember().await;
    }

    /// Keeps the notes of the deliveries of what still fires.
    async fn remember(&self) {
        {
            let mut last = self.remembered.lock();
            if last.elapsed() < REMEMBER_EVERY {
                return;
            }
            *last = Instant::now();
        }
        let sinks: Vec<_> = {
            let outlets = self.outlets.lock();
            let shared = outlets.iter().filter(|outlet| outlet.is_shared());
            shared.map(|outlet| outlet.name().to_owned()).collect()
        };
        for alert in self.firing() {
            for sink in &sinks {
                self.fleet.remember(sink, &alert.key).await;
            }
        }
    }

    /// Ends the episodes whose instances have all ended or died: once this instance has seen for as long as an
    /// instance counts that an episode is open and that its alert does not fire here.
    async fn end_what_was_left_open(&self, open: Vec<(String, u64)>, now: Instant) {
        let mut left = Vec::new();
        {
            let (engine, episodes) = (self.engine.lock(), self.episodes.lock());
            let mut since = self.left_open.lock();
            let mut seen = HashMap::new();
            for (id, episode) in open {
                // A rule's name has no slash.
                let Some((rule, subject)) = id.split_once('/') else {
                    continue;
                };
                let Some((index, standing)) = engine.standing(rule, subject, now) else {
                    continue;
                };
                let Some(rule) = engine.rules.get(index) else {
                    continue;
                };
                if episodes.contains_key(&id) || standing == Standing::Open {
                    continue;
                }
                let first = since.get(&id).copied().unwrap_or(now);
                seen.insert(id.clone(), first);
                let alive = self.fleet.alive();
                let (is_due, context) = match standing {
                    Standing::Good(good, context) => {
                        let is_good = now.duration_since(good) >= rule.recover;
                        (is_good && now.duration_since(first) >= alive, context)
                    }
                    // Another instance may have it, and wait until it has been bad for long enough.
                    _ => {
                        let wait = alive * 2 + rule.hold + rule.recover;
                        (now.duration_since(first) >= wait, Context::Gone)
                    }
                };
                if is_due {
                    let change = Transition {
                        rule: index,
                        subject: subject.to_owned(),
                        state: AlertState::Resolved,
                        since: first,
                        context,
                    };
                    left.push((id, episode, change));
                }
            }
            *since = seen;
        }
        for (id, episode, change) in left {
            // While others fire, and without Redis, it is asked again after the next look.
            let Ok(is_over) = self.fleet.close(&id, episode, false).await else {
                return;
            };
            if let (true, Some(mut alert)) = (is_over, self.alert(&change, now)) {
                alert.key = format!("{}/{id}/{episode}/resolved", self.name);
                self.send_shared(&alert);
            }
        }
    }

    pub(super) fn send_shared(&self, alert: &Alert) {
        for outlet in &*self.outlets.lock() {
            if outlet.is_shared() {
                outlet.send(alert);
            }
        }
    }

    fn alert(&self, change: &Transition, now: Instant) -> Option<Alert> {
        let engine = self.engine.lock();
        let rule = engine.rules.get(change.rule)?;
        let at = SystemTime::now();
        Some(Alert {
            key: String::new(),
            source: self.name.clone(),
            rule: rule.name.clone(),
            subject: change.subject.clone(),
            severity: rule.severity,
            state: change.state,
            since: at
                .checked_sub(now.saturating_duration_since(change.since))
                .unwrap_or(at),
            at,
            context: change.context.clone(),
        })
    }

    pub(super) fn firing(&self) -> Vec<Alert> {
        let now = Instant::now();
        let changes: Vec<_> = {
            let engine = self.engine.lock();
            let firing = engine.firing();
            firing
                .map(|(rule, subject, since, context)| Transition {
                    rule,
                    subject: subject.to_owned(),
                    state: AlertState::Firing,
                    since,
                    context: context.clone(),
                })
                .collect()
        };
        let alerts = changes.iter().filter_map(|change| {
            let mut alert = self.alert(change, now)?;
            let id = format!("{}/{}", alert.rule, alert.subject);
            let episode = self.episodes.lock().get(&id).copied().unwrap_or_default();
            alert.key = format!("{}/{id}/{episode}/firing", self.name);
            Some(alert)
        });
        alerts.collect()
    }
}

#[async_trait]
impl Inspect for Shared {
    fn kind(&self) -> &'static str {
        "alerts"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn snapshot(&self) -> Snapshot {
        let firing = self.firing();
        let mut snapshot = Snapshot::default().fact("firing", firing.len());
        for alert in firing {
            snapshot.push(vec![
                ("rule", alert.rule.into()),
                ("subject", alert.subject.into()),
                ("severity", alert.severity.as_str().into()),
                ("message", alert.context.to_string().into()),
            ]);
        }
        snapshot
    }
}
