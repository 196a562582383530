//! Readings: what a rule says about each of its subjects, by what was observed.

use std::time::Duration;

use redkit_core::breaker::BreakerState;
use redkit_core::inspection::{Fact, Snapshot};
use tokio::time::Instant;

use super::Windows;
use crate::alerts::alert::Context;
use crate::alerts::observation::Observed;
use crate::alerts::rule::{Condition, Rule};
use crate::health::{CauseKind, Observed as Measured, Report, Status};
use crate::statistics::{ServerInfo, ServerStatistics};

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
    /// Not bad at this moment, and not over: it changes nothing but that an end begins anew.
    Lasting,
    /// There is too little to say anything.
    Unknown,
}

impl Verdict {
    /// What is said by those servers that have answered, when others have not: no end, since it may be they.
    fn without_some(self) -> Self {
        match self {
            Verdict::Good | Verdict::Between => Verdict::Lasting,
            other => other,
        }
    }

    /// Of two about one subject the one with more weight is taken.
    pub(super) fn weight(self) -> u8 {
        match self {
            Verdict::Bad => 4,
            Verdict::Lasting => 3,
            Verdict::Unknown => 2,
            Verdict::Between => 1,
            Verdict::Good => 0,
        }
    }
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
                    // It is being tried out, which may take long when there are few calls.
                    BreakerState::HalfOpen => Verdict::Lasting,
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
            let mut pings = report
                .of(&seen.name)
                .filter(|check| check.measurement == "ping");
            let has_failed = pings.any(|check| {
                let cause = check.cause.as_ref();
                cause.is_some_and(|cause| cause.kind == CauseKind::CheckFailed)
            });
            let context = Context::CheckFailed {
                cause: "the health check itself failed".to_owned(),
            };
            readings.push(Reading {
                subject: format!("{}/health", seen.name),
                verdict: verdict_of(has_failed),
                context,
            });
        }
        Condition::MemoryOver(_) | Condition::MemoryShareOver(_) | Condition::EvictionPolicy => {
            let servers = seen.servers.as_ref()?.as_ref().ok()?;
            for (server, info) in &servers.servers {
                readings.push(of_server(rule, format!("{}/{server}", seen.name), info));
            }
            readings.extend(silent(seen, servers));
        }
        Condition::Evictions => {
            let servers = seen.servers.as_ref()?.as_ref().ok()?;
            for (server, info) in &servers.servers {
                let subject = format!("{}/{server}", seen.name);
                let grown = windows.of(&run_of(&subject, info)).add(
                    now,
                    [info.evicted_keys, 0],
                    rule.window,
                );
                readings.push(grown_count(rule, subject, "evicted keys", grown));
            }
            readings.extend(silent(seen, servers));
        }
        Condition::HitRateUnder(_) => {
            if let Some(servers) = &seen.servers {
                let (grown, is_whole) = match servers {
                    Ok(servers) => (
                        grown_of_servers(rule, seen, servers, &mut windows, now),
                        servers.failed.is_empty(),
                    ),
                    Err(_) => (None, true),
                };
                let mut reading = hit_rate(rule, seen.name.clone(), grown);
                if !is_whole {
                    reading.verdict = reading.verdict.without_some();
                    // One that is silent may find, or miss, what would turn the rate.
                    if reading.verdict == Verdict::Bad {
                        reading.verdict = Verdict::Unknown;
                    }
                }
                readings.push(reading);
            }
            for (subject, facts) in patterns(seen) {
                if let (Some(hits), Some(misses)) =
                    (sum(facts, &["hits", "l1_hits"]), sum(facts, &["misses"]))
                {
                    let window = windows.of(&subject);
                    let grown = window.add(now, [hits, misses], rule.window);
                    readings.push(hit_rate(rule, subject, grown));
                }
            }
            readings.extend(unread(seen));
        }
        _ => {
            for (subject, facts) in patterns(seen) {
                readings.extend(of_pattern(rule, subject, facts, &mut windows, now));
            }
            readings.extend(unread(seen));
        }
    }
    Some(readings)
}

/// Figures that could not be read are neither good nor gone.
fn unread(seen: &Observed) -> impl Iterator<Item = Reading> {
    seen.unread.iter().map(|(figures, cause)| Reading {
        subject: format!("{}/{figures}", seen.name),
        verdict: Verdict::Unknown,
        context: Context::CheckFailed {
            cause: cause.clone(),
        },
    })
}

/// Servers that did not answer are neither good nor gone.
fn silent(seen: &Observed, servers: &ServerStatistics) -> impl Iterator<Item = Reading> {
    servers.failed.iter().map(|(server, error)| Reading {
        subject: format!("{}/{server}", seen.name),
        verdict: Verdict::Unknown,
        context: Context::CheckFailed {
            cause: error.to_string(),
        },
    })
}

/// The name of a server's window: its counters begin anew with each start, and those of another server that has
/// taken its place are others.
fn run_of(subject: &str, info: &ServerInfo) -> String {
    format!("{subject} {}", info.run_id)
}

/// By how much hits and misses have grown, of each server by itself: one that does not answer takes nothing away, and
/// when it answers again it adds what it has counted meanwhile.
fn grown_of_servers(
    rule: &Rule,
    seen: &Observed,
    servers: &ServerStatistics,
    windows: &mut Windows<'_>,
    now: Instant,
) -> Option<([u64; 2], Duration)> {
    let mut sum: Option<([u64; 2], Duration)> = None;
    for (server, info) in &servers.servers {
        let name = run_of(&format!("{}/{server}", seen.name), info);
        let counters = [info.keyspace_hits, info.keyspace_misses];
        let grown = windows.of(&name).add(now, counters, rule.window);
        if let Some(([hits, misses], time)) = grown {
            let ([all_hits, all_misses], longest) = sum.unwrap_or_default();
            sum = Some(([all_hits + hits, all_misses + misses], longest.max(time)));
        }
    }
    sum
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

/// The slowest server. One that does not answer has no latency, which is another rule's business; but it may be the
/// slow one.
fn latency(rule: &Rule, seen: &Observed, report: &Report) -> Option<Reading> {
    let pings = report
        .of(&seen.name)
        .filter(|check| check.measurement == "ping");
    let times = pings.map(|check| match check.observed {
        Measured::Time(time) => Some(time),
        _ => None,
    });
    let times: Vec<_> = times.collect();
    let observed = times.iter().flatten().max().copied()?;
    let verdict = compare(rule, observed.as_secs_f64());
    Some(Reading {
        subject: seen.name.clone(),
        verdict: match times.contains(&None) {
            true => verdict.without_some(),
            false => verdict,
        },
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
            // A queue of changes has one kind of age, and calls it `oldest`.
            let age = facts
                .get("oldest_pending")
                .or_else(|| facts.get("oldest"))
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

fn hit_rate(rule: &Rule, subject: String, grown: Option<([u64; 2], Duration)>) -> Reading {
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
