//! The headers that say what limits say.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::decision::Decision;
use crate::verdict::Verdict;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which headers answers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) standard: bool,
    pub(super) x_ratelimit: bool,
}

impl Headers {
    /// Adds what a decision says to what an inner layer may have said: the standard headers are
    /// lists, and of the others the inner layer's stay. `Retry-After` belongs to every denial.
    pub(super) fn add(self, decision: &Decision, headers: &mut HeaderMap) {
        if self.standard {
            let (mut policies, mut limits) = (String::new(), String::new());
            for verdict in decision.verdicts() {
                let comma = if policies.is_empty() { "" } else { ", " };
                let (name, quota) = (verdict.policy(), verdict.quota());
                // Writing to a String does not fail.
                let _ = write!(policies, "{comma}\"{name}\";q={}", quota.limit());
                // The draft has whole seconds only.
                if quota.window().subsec_nanos() == 0 {
                    let _ = write!(policies, ";w={}", quota.window().as_secs());
                }
                let _ = write!(limits, "{comma}\"{name}\";r={}", verdict.remaining());
                if let Some(more) = more_units_after(decision, verdict) {
                    let _ = write!(limits, ";t={more}");
                }
            }
            append(headers, POLICY, &policies);
            append(headers, LIMIT, &limits);
        }
        if self.x_ratelimit {
            let fields = [
                (X_LIMIT, decision.limit()),
                (X_REMAINING, decision.remaining()),
                (X_RESET, whole_seconds(decision.reset_after())),
            ];
            // All three are of one limit, or nobody could tell which is whose.
            if !fields.iter().any(|(name, _)| headers.contains_key(name)) {
                headers.extend(fields.map(|(name, value)| (name, value.into())));
            }
        }
        if !decision.is_allowed() {
            headers.insert(RETRY_AFTER, retry_after(decision).into());
        }
    }
}

/// Whole seconds after which a denied call makes sense again: rounded up, and never 0.
pub(super) fn retry_after(decision: &Decision) -> u64 {
    whole_seconds(decision.retry_after()).max(1)
}

/// Whole seconds until the limit has more units than now: what the draft calls the reset. A client must not
/// be told a later time than in `Retry-After`, so of a denied call only the limits that denied it say so.
fn more_units_after(decision: &Decision, verdict: &Verdict) -> Option<u64> {
    if !verdict.is_allowed() {
        return Some(whole_seconds(verdict.retry_after()).max(1));
    }
    let all = verdict.reset_after();
    let more = verdict.unit_after.map_or(all, |unit| unit.min(all));
    decision.is_allowed().then(|| whole_seconds(more))
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Names of policies hold letters, digits, `-`, `_` and `.` only.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}
