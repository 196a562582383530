//! [`Lifetime`]: how long a response may be used, and for how long after that in need (RFC 9111,
//! section 4.2, and RFC 5861).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::directives::{Directives, seconds};
use crate::list;

/// How old a response is when it comes from its handler, and for how long it may be used from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) age: Duration,
    pub(crate) fresh: Duration,
    /// These two begin when it is no longer fresh.
    pub(crate) while_revalidating: Duration,
    pub(crate) if_error: Duration,
}

impl Lifetime {
    /// `None` when the response does not say and there is no `default`.
    pub(crate) fn of(
        directives: &Directives,
        headers: &HeaderMap,
        default: Option<Duration>,
        now: SystemTime,
    ) -> Option<Self> {
        let date = date(headers, &DATE).unwrap_or(now);
        let total = explicit(directives, headers, date).or(default)?;
        let age = age(headers, date, now);
        let stale = |seconds: Option<u64>| match seconds {
            // Explicit leave to serve it stale weighs more than what `s-maxage` implies.
            Some(seconds) if !directives.must_revalidate && !directives.proxy_revalidate => {
                Duration::from_secs(seconds)
            }
            _ => Duration::ZERO,
        };
        Some(Self {
            age,
            fresh: total.saturating_sub(age),
            while_revalidating: stale(directives.stale_while_revalidate),
            if_error: stale(directives.stale_if_error),
        })
    }

    /// Takes off what has passed since the response was made.
    pub(crate) fn grow_older(&mut self, passed: Duration) {
        let over = passed.saturating_sub(self.fresh);
        self.age = self.age.saturating_add(passed);
        self.fresh = self.fresh.saturating_sub(passed);
        self.while_revalidating = self.while_revalidating.saturating_sub(over);
        self.if_error = self.if_error.saturating_sub(over);
    }

    /// Whether it may not be given at all.
    pub(crate) fn is_over(&self) -> bool {
        self.fresh.is_zero() && self.stale().is_zero()
    }

    /// For how long it is there after it was fresh.
    pub(crate) fn stale(&self) -> Duration {
        self.while_revalidating.max(self.if_error)
    }
}

/// Whether a response says itself for how long it is fresh.
pub(crate) fn is_explicit(directives: &Directives, headers: &HeaderMap) -> bool {
    directives.s_maxage.is_some()
        || directives.max_age.is_some()
        || (!directives.is_targeted && headers.contains_key(EXPIRES))
}

fn explicit(directives: &Directives, headers: &HeaderMap, date: SystemTime) -> Option<Duration> {
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Some(Duration::from_secs(seconds));
    }
    if directives.is_targeted || !headers.contains_key(EXPIRES) {
        return None;
    }
    // A value that is no date lies in the past (5.3).
    let expires = self::date(headers, &EXPIRES);
    let left = expires.and_then(|expires| expires.duration_since(date).ok());
    Some(left.unwrap_or_default())
}

/// The age by the response's `Age`, or by its date, whichever is more. Of several ages the
/// first counts, and one that is no number is ignored (RFC 9111, section 5.1).
fn age(headers: &HeaderMap, date: SystemTime, now: SystemTime) -> Duration {
    let lines = headers.get_all(AGE).iter();
    let mut members = lines.flat_map(|line| list::split(line.as_bytes()).elements);
    let said = members.next().and_then(seconds).unwrap_or(0);
    let said = Duration::from_secs(said);
    now.duration_since(date).unwrap_or_default().max(said)
}

/// The date in a field, when it is there once.
pub(crate) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    httpdate::parse_http_date(line.to_str().ok()?).ok()
}

/// Has a response that is kept say when it was made: at the latest when its head came (RFC 9110, section 6.6.1).
pub(crate) fn add_date(headers: &mut HeaderMap, received: SystemTime) {
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(received))
    {
        headers.insert(DATE, date);
    }
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn now() -> SystemTime {
        NOW + Duration::from_secs(1_000_000_000)
    }

    fn at(seconds: i64) -> String {
        let away = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            now() - away
        } else {
            now() + away
        };
        httpdate::fmt_http_date(time)
    }

    fn of(fields: &[(HeaderName, &str)], default: Option<u64>) -> Option<(u64, u64, u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        let directives = Directives::of_response(&headers);
        let default = default.map(Duration::from_secs);
        let lifetime = Lifetime::of(&directives, &headers, default, now())?;
        Some((
            lifetime.age.as_secs(),
            lifetime.fresh.as_secs(),
            lifetime.while_revalidating.as_secs(),
            lifetime.if_error.as_secs(),
        ))
    }

    #[test]
    fn the_first_of_s_maxage_max_age_expires_and_the_default_counts() {
        let (past, soon) = (at(-30), at(30));
        let fresh = |fields: &[(HeaderName, &str)], default| {
            of(fields, default).map(|(_, fresh, ..)| fresh)
        };
        let expires = (EXPIRES, &*soon);
        let all = (CACHE_CONTROL, "s-maxage=10, max-age=20");
        assert_eq!(fresh(&[all, expires.clone()], Some(40)), Some(10));
        let some = (CACHE_CONTROL, "max-age=20");
        assert_eq!(fresh(&[some, expires.clone()], Some(40)), Some(20));
        assert_eq!(fresh(std::slice::from_ref(&expires), Some(40)), Some(30));
        assert_eq!(fresh(&[], Some(40)), Some(40));
        assert_eq!(fresh(&[], None), None);
        assert_eq!(fresh(&[(EXPIRES, "0")], Some(40)), Some(0));
        assert_eq!(fresh(&[(EXPIRES, &past)], Some(40)), Some(0));
        let twice = [expires.clone(), expires];
        assert_eq!(fresh(&twice, Some(40)), Some(0));
    }

    #[test]
    fn a_response_that_is_old_already_is_fresh_for_less() {
        let (past, soon) = (at(-30), at(30));
        let max = (CACHE_CONTROL, "max-age=100");
        assert_eq!(of(&[max.clone(), (AGE, "40")], None), Some((40, 60, 0, 0)));
        assert_eq!(
            of(&[max.clone(), (DATE, &past)], None),
            Some((30, 70, 0, 0))
        );
        let both = [max.clone(), (DATE, &*past), (AGE, "40")];
        assert_eq!(of(&both, None), Some((40, 60, 0, 0)));
        assert_eq!(of(&[max.clone(), (AGE, "400")], None), Some((400, 0, 0, 0)));
        let twice = [max.clone(), (AGE, "10"), (AGE, "40")];
        assert_eq!(of(&twice, None), Some((10, 90, 0, 0)));
        for (said, age) in [
            ("", 0),
            ("x", 0),
            ("-1", 0),
            ("1.5", 0),
            ("1, 2", 1),
            ("0, 0", 0),
            ("x, 9", 0),
        ] {
            let (counted, fresh, ..) = of(&[max.clone(), (AGE, said)], None).unwrap();
            assert_eq!((counted, fresh), (age, 100 - age), "{said:?}");
        }
        let later = [(EXPIRES, &*soon), (DATE, &*past)];
        assert_eq!(of(&later, None), Some((30, 30, 0, 0)));
        // A date that is yet to come makes nothing younger.
        assert_eq!(of(&[max, (DATE, &soon)], None), Some((0, 100, 0, 0)));
    }

    #[test]
    fn stale_only_when_it_is_allowed() {
        let with = |more: &str| {
            let line = format!("max-age=1, stale-while-revalidate=5, stale-if-error=9{more}");
            of(&[(CACHE_CONTROL, &line)], None)
        };
        assert_eq!(with(""), Some((0, 1, 5, 9)));
        assert_eq!(with(", s-maxage=2"), Some((0, 2, 5, 9)));
        assert_eq!(with(", must-revalidate"), Some((0, 1, 0, 0)));
        assert_eq!(with(", proxy-revalidate"), Some((0, 1, 0, 0)));
    }
}
