//! Readings: what a rule says about each of its subjects, by what was observed.

use std::time::Duration;

use redkit_core::breaker::BreakerState;
use redkit_core::inspection::{Fact, Snapshot};
use tokio::time::Instant;

use super::Windows;
use crate::alerts::alert::Context;
use crate::alerts::observation::Observed;
use crate::alerts::rule::{Condition, Rule};
use crate::health::{Observed as Measured, Report, Status};
use crate::statistics::ServerInfo;

/// What a rule says about one subject.
pub(super) struct Reading {
    pub(super) subject: String,
    pub(super) verdict: Verdict,
    pub(super) context: Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Bad,
    /// Better than the limit, and not so good that an alert is over.
    Between,
    Good,
    /// There is too little to say anything.
    Unknown,
}

/// The readings of a rule for a dependency; `None` when what it needs could not be read.
pub(super) fn of(
    rule: &Rule,
    seen: &Observed,
    report: &Report,
    mut windows: Windows<'_>,
    now: Instant,
) -> Option<Vec<Reading>> {
    let mut readings = Vec::new();
    match rule.condition {
        Condition::Unhealthy => readings.push(unhealthy(seen, report)),
        Condition::LatencyOver(_) => readings.push(latency(rule, seen, report)?),
        Condition::BreakerOpen => {
            readings.extend(seen.breakers.iter().map(|node| {
                let state = node.status.state;
                let is_open = matches!(state, BreakerState::Open | BreakerState::ForcedOpen);
                let verdict = match state {
                    // It is being tried out.
                    BreakerState::HalfOpen => Verdict::Between,
                    _ => bad_if(is_open),
                };
                let context = Context::Breaker {
                    state: state.as_str(),
                };
                Reading {
                    subject: format!("{}/{}", seen.name, node.node),
                    verdict,
                    context,
                }
            }));
        }
        Condition::CheckFailed => {
            let verdict_of = |failed: bool| bad_if(failed);
            if let Some(servers) = &seen.servers {
                let cause = match servers {
                    Ok(servers) => servers
                        .failed
                        .first()
                        .map(|(name, error)| format!("{name}: {error}")),
                    Err(error) => Some(error.clone()),
                };
                let verdict = verdict_of(cause.is_some());
                let context = Context::CheckFailed {
                    cause: cause.unwrap_or_default(),
                };
                readings.push(Reading {
                    subject: format!("{}/statistics", seen.name),
                    verdict,
                    context,
                });
            }
            readings.extend(seen.patterns.iter().map(|pattern| Reading {
                subject: format!("{}/{}/{}", seen.name, pattern.kind, pattern.name),
                verdict: Verdict::Good,
                context: Context::Gone,
            }));
            readings.extend(seen.unread.iter().map(|(figures, cause)| Reading {
                subject: format!("{}/{figures}", seen.name),
                verdict: Verdict::Bad,
                context: Context::CheckFailed {
                    cause: cause.clone(),
                },
            }));
            let is_there = report.of(&seen.name).next().is_some();
            let context = Context::CheckFailed {
                cause: "the health check gave nothing".to_owned(),
            };
            readings.push(Reading {
                subject: format!("{}/health", seen.name),
                verdict: verdict_of(!is_there),
                context,
            });
        }
        Condition::MemoryOver(_) | Condition::MemoryShareOver(_) | Condition::EvictionPolicy => {
            for (server, info) in &seen.servers.as_ref()?.as_ref().ok()?.servers {
                readings.push(of_server(rule, format!("{}/{server}", seen.name), info));
            }
        }
        Condition::Evictions => {
            for (server, info) in &seen.servers.as_ref()?.as_ref().ok()?.servers {
                let subject = format!("{}/{server}", seen.name);
                let grown = windows
                    .of(&subject)
                    .add(now, [info.evicted_keys, 0], rule.window);
                readings.push(grown_count(rule, subject, "evicted keys", grown));
            }
        }
        Condition::HitRateUnder(_) => {
            let total = &seen.servers.as_ref()?.as_ref().ok()?.total;
            let counters = [total.keyspace_hits, total.keyspace_misses];
            readings.push(hit_rate(
                rule,
                seen.name.clone(),
                counters,
                &mut windows,
                now,
            ));
            for (subject, facts) in patterns(seen) {
                if let (Some(hits), Some(misses)) =
                    (sum(facts, &["hits", "l1_hits"]), sum(facts, &["misses"]))
                {
                    readings.push(hit_rate(rule, subject, [hits, misses], &mut windows, now));
                }
            }
        }
        _ => {
            for (subject, facts) in patterns(seen) {
                readings.extend(of_pattern(rule, subject, facts, &mut windows, now));
            }
            // What could not be read is neither good nor gone.
            readings.extend(seen.unread.iter().map(|(figures, cause)| Reading {
                subject: format!("{}/{figures}", seen.name),
                verdict: Verdict::Unknown,
                context: Context::CheckFailed {
                    cause: cause.clone(),
                },
            }));
        }
    }
    Some(readings)
}

fn unhealthy(seen: &Observed, report: &Report) -> Reading {
    // The breaker has a rule of its own.
    let checks = report
        .of(&seen.name)
        .filter(|check| check.measurement != "breaker");
    let failed = checks
        .filter(|check| check.status == Status::Fail)
        .max_by_key(|check| check.status);
    let cause = failed.and_then(|check| Some(check.cause.as_ref()?.kind));
    Reading {
        subject: seen.name.clone(),
        verdict: bad_if(failed.is_some()),
        context: Context::Unhealthy { cause },
    }
}

/// The slowest server. One that does not answer has no latency: that is another rule's business.
fn latency(rule: &Rule, seen: &Observed, report: &Report) -> Option<Reading> {
    let pings = report
        .of(&seen.name)
        .filter(|check| check.measurement == "ping");
    let times = pings.filter_map(|check| match check.observed {
        Measured::Time(time) => Some(time),
        _ => None,
    });
    let observed = times.max()?;
    Some(Reading {
        subject: seen.name.clone(),
        verdict: compare(rule, observed.as_secs_f64()),
        context: Context::Latency {
            observed,
            limit: seconds(rule),
        },
    })
}

fn of_server(rule: &Rule, subject: String, info: &ServerInfo) -> Reading {
    let memory = Context::Memory {
        used: info.used_memory,
        maximum: info.maxmemory,
    };
    let (verdict, context) = match rule.condition {
        Condition::MemoryShareOver(_) => match info.memory_share() {
            Some(share) => (compare(rule, share), memory),
            // Without a limit there is no share of it.
            None => (Verdict::Good, memory),
        },
        Condition::EvictionPolicy => {
            let policy = info.maxmemory_policy.clone();
            (bad_if(info.may_evict()), Context::EvictionPolicy { policy })
        }
        _ => (compare(rule, number(info.used_memory)), memory),
    };
    Reading {
        subject,
        verdict,
        context,
    }
}

fn of_pattern(
    rule: &Rule,
    subject: String,
    facts: &Snapshot,
    windows: &mut Windows<'_>,
    now: Instant,
) -> Option<Reading> {
    Some(match rule.condition {
        Condition::OldestPendingOver(_) => {
            let age = facts
                .get("oldest_pending")
                .and_then(as_number)
                .filter(|age| age.is_finite() && *age >= 0.0)?;
            let observed = Duration::try_from_secs_f64(age).unwrap_or(Duration::MAX);
            let context = Context::OldestPending {
                age: observed,
                limit: seconds(rule),
            };
            Reading {
                subject,
                verdict: compare(rule, age),
                context,
            }
        }
        Condition::DeadLettersOver(limit) => {
            let count = sum(facts, &["dead_letters"])?;
            let context = Context::Count {
                what: "dead letters",
                count,
            };
            Reading {
                subject,
                verdict: bad_if(count > limit),
                context,
            }
        }
        Condition::NoConsumers => {
            let count = sum(facts, &["consumers"])?;
            let context = Context::Count {
                what: "consumers",
                count,
            };
            Reading {
                subject,
                verdict: bad_if(count == 0),
                context,
            }
        }
        Condition::LostLocks => {
            let lost = sum(facts, &["lost"])?;
            let grown = windows.of(&subject).add(now, [lost, 0], rule.window);
            grown_count(rule, subject, "lost locks", grown)
        }
        Condition::DeniedRatioOver(limit) => {
            let (denied, allowed) = (sum(facts, &["denied"])?, sum(facts, &["allowed"])?);
            let grown = windows
                .of(&subject)
                .add(now, [denied, allowed], rule.window);
            let ([denied, allowed], window) = grown.unwrap_or_default();
            let decisions = denied + allowed;
            let ratio = number(denied) / number(decisions.max(1));
            let verdict = match decisions < rule.minimum.max(1) {
                true => too_few(rule, window),
                false => compare(rule, ratio),
            };
            let context = Context::DeniedRatio {
                ratio,
                decisions,
                window,
                limit,
            };
            Reading {
                subject,
                verdict,
                context,
            }
        }
        _ => return None,
    })
}

fn hit_rate(
    rule: &Rule,
    subject: String,
    counters: [u64; 2],
    windows: &mut Windows<'_>,
    now: Instant,
) -> Reading {
    let grown = windows.of(&subject).add(now, counters, rule.window);
    let ([hits, misses], window) = grown.unwrap_or_default();
    let lookups = hits + misses;
    let rate = number(hits) / number(lookups.max(1));
    let verdict = match lookups < rule.minimum.max(1) {
        true => too_few(rule, window),
        false => compare(rule, rate),
    };
    let limit = rule.condition.limit().map_or(0.0, |(limit, _)| limit);
    Reading {
        subject,
        verdict,
        context: Context::HitRate {
            rate,
            lookups,
            window,
            limit,
        },
    }
}

/// A whole window with too little in it ends an alert: nobody is affected any more.
fn too_few(rule: &Rule, window: Duration) -> Verdict {
    match window >= rule.window {
        true => Verdict::Good,
        false => Verdict::Unknown,
    }
}

fn grown_count(
    rule: &Rule,
    subject: String,
    what: &'static str,
    grown: Option<([u64; 2], Duration)>,
) -> Reading {
    let count = grown.map_or(0, |([count, _], _)| count);
    let verdict = match grown {
        None => Verdict::Unknown,
        Some(_) => bad_if(count > rule.minimum),
    };
    Reading {
        subject,
        verdict,
        context: Context::Count { what, count },
    }
}

fn compare(rule: &Rule, value: f64) -> Verdict {
    let Some((limit, usual)) = rule.condition.limit() else {
        return Verdict::Unknown;
    };
    let clears_at = rule.clears_at.unwrap_or(usual);
    let (is_bad, is_good) = match rule.condition.is_lower_bound() {
        true => (value < limit, value >= clears_at),
        false => (value > limit, value <= clears_at),
    };
    match (is_bad, is_good) {
        (true, _) => Verdict::Bad,
        (false, true) => Verdict::Good,
        (false, false) => Verdict::Between,
    }
}

fn bad_if(is_bad: bool) -> Verdict {
    match is_bad {
        true => Verdict::Bad,
        false => Verdict::Good,
    }
}

/// The patterns' facts: `dependency/kind/name`.
fn patterns(seen: &Observed) -> impl Iterator<Item = (String, &Snapshot)> {
    seen.patterns.iter().map(|pattern| {
        let subject = format!("{}/{}/{}", seen.name, pattern.kind, pattern.name);
        (subject, &pattern.snapshot)
    })
}

/// The sum of those of the facts that there are; `None` when there is none.
fn sum(facts: &Snapshot, names: &[&str]) -> Option<u64> {
    let counts = names.iter().filter_map(|name| match facts.get(name) {
        Some(Fact::Count(count)) => Some(*count),
        _ => None,
    });
    counts.reduce(u64::saturating_add)
}

fn as_number(fact: &Fact) -> Option<f64> {
    match fact {
        Fact::Count(count) => Some(number(*count)),
        Fact::Number(number) => Some(*number),
        _ => None,
    }
}

fn seconds(rule: &Rule) -> Duration {
    let limit = rule.condition.limit().map_or(0.0, |(limit, _)| limit);
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count beyond 2^53 is compared well enough"
)]
fn number(count: u64) -> f64 {
    count as f64
}
