//! The servers' clocks, against this machine's and against each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use redkit_core::{Client, Command};
use tokio::time::Instant;

use super::finding::Finding;
use crate::format;

/// A clock that is off by so much is set wrongly: networks delay an answer by less.
const OFF: Duration = Duration::from_secs(1);
/// Sessions, schedules and delayed messages are noticeably wrong by then.
const FAR_OFF: Duration = Duration::from_secs(60);

/// How many times a clock is read; the quickest answer counts.
const READINGS: usize = 3;

/// How far a server's clock is ahead of this machine's, in µs, and how uncertain that is.
#[derive(Debug, Clone, Copy)]
struct Offset {
    ahead: i128,
    uncertain: i128,
}

pub(super) async fn look(client: &Client, patience: Duration) -> Vec<Finding> {
    let servers = client.servers();
    let read = servers
        .iter()
        .map(|server| read(client, &server.name, patience));
    let read = join_all(read).await;
    let known: Vec<_> = servers
        .iter()
        .zip(read)
        .filter_map(|(server, offset)| Some((&*server.name, offset?)))
        .collect();
    let mut findings: Vec<_> = known
        .iter()
        .map(|(server, offset)| of_server(*offset).on(server))
        .collect();
    findings.extend(between(&known));
    findings
}

async fn read(client: &Client, server: &str, patience: Duration) -> Option<Offset> {
    let deadline = Instant::now() + patience;
    let mut best: Option<Offset> = None;
    for _ in 0..READINGS {
        let (here, start) = (SystemTime::now(), Instant::now());
        let time = Command::new("TIME").deadline(deadline);
        let (seconds, micros): (i64, i64) = client.call_server(server, time).await.ok()?;
        let took = i128::try_from(start.elapsed().as_micros()).ok()?;
        let here = i128::try_from(here.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
        let there = i128::from(seconds) * 1_000_000 + i128::from(micros);
        // The server read its clock somewhere between request and reply.
        let offset = Offset {
            ahead: there - here - took / 2,
            uncertain: took / 2,
        };
        if best.is_none_or(|best| offset.uncertain < best.uncertain) {
            best = Some(offset);
        }
    }
    best
}

fn of_server(offset: Offset) -> Finding {
    let by = distance(offset.ahead, offset.uncertain);
    let direction = if offset.ahead < 0 {
        "behind"
    } else {
        "ahead of"
    };
    let found = format!("{} {direction} this machine", format::duration(by));
    let remedy = "keep the clocks of all machines by NTP (chrony, systemd-timesyncd); see which of the two is wrong";
    let effect = "the patterns go by the server's clock: delayed messages, schedules and times in lists differ \
                  from this machine's by that";
    match by {
        by if by >= FAR_OFF => {
            Finding::error("clock", format!("its clock is {found}; {effect}"), remedy)
        }
        by if by >= OFF => {
            Finding::warning("clock", format!("its clock is {found}; {effect}"), remedy)
        }
        _ => Finding::ok("clock", format!("{} apart", format::duration(by))),
    }
}

/// Masters that differ: a key's time jumps when its slot moves, and fences can go back by it after a failover that
/// lost their record.
fn between(known: &[(&str, Offset)]) -> Option<Finding> {
    let first = known.iter().min_by_key(|(_, offset)| offset.ahead)?;
    let last = known.iter().max_by_key(|(_, offset)| offset.ahead)?;
    if first.0 == last.0 {
        return None;
    }
    let by = distance(
        last.1.ahead - first.1.ahead,
        last.1.uncertain + first.1.uncertain,
    );
    Some(match by >= OFF {
        true => Finding::warning(
            "clocks",
            format!(
                "the clocks of {} and {} are {} apart",
                first.0,
                last.0,
                format::duration(by)
            ),
            "keep the clocks of the servers by NTP",
        ),
        false => Finding::ok("clocks", "the servers agree"),
    })
}

/// How much of a difference is certain.
fn distance(ahead: i128, uncertain: i128) -> Duration {
    let certain = (ahead.abs() - uncertain).max(0);
    Duration::from_micros(u64::try_from(certain).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    fn offset(millis: i128, uncertain: i128) -> Offset {
        Offset {
            ahead: millis * 1_000,
            uncertain: uncertain * 1_000,
        }
    }

    #[test]
    fn a_difference_counts_as_far_as_it_is_certain() {
        for (ahead, uncertain, severity) in [
            (900, 0, Severity::Ok),
            (-1_500, 10, Severity::Warning),
            (1_500, 600, Severity::Ok),
            (-90_000, 10, Severity::Error),
        ] {
            let finding = of_server(offset(ahead, uncertain));
            assert_eq!(finding.severity, severity, "{ahead} {uncertain}");
        }
        assert!(of_server(offset(-1_500, 0)).found.contains("1.5s behind"));
    }

    #[test]
    fn servers_are_compared_with_each_other() {
        let (a, b) = (("a", offset(-600, 1)), ("b", offset(600, 1)));
        assert_eq!(between(&[a, b]).unwrap().severity, Severity::Warning);
        let b = ("b", offset(300, 1));
        assert_eq!(between(&[a, b]).unwrap().severity, Severity::Ok);
        assert!(between(&[a]).is_none());
    }
}
