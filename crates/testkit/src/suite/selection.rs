//! [`Selection`]: whether a backend's tests run.

use super::BackendKind;
use crate::{Error, Program};

/// The variable that names the backends, as a list with commas.
const VARIABLE: &str = "REDKIT_TEST_BACKENDS";

/// Whether a backend's tests run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Chosen,
    /// Why not.
    LeftOut(String),
}

impl Selection {
    pub(super) fn from_env(kind: BackendKind) -> Result<Self, Error> {
        let named = std::env::var(VARIABLE).unwrap_or_default();
        Self::of(kind, &named, |program| program.find().is_ok())
    }

    /// A backend that is named is chosen even when it is absent, so that its tests fail. With none
    /// named, `embedded` is chosen and whatever is there: of clusters one, as they take longest,
    /// and each driver and topology once.
    fn of(
        kind: BackendKind,
        named: &str,
        is_there: impl FnOnce(Program) -> bool,
    ) -> Result<Self, Error> {
        let mut named = named
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .peekable();
        if named.peek().is_some() {
            let mut chosen = false;
            for name in named {
                chosen |= parse(name)? == kind;
            }
            return Ok(match chosen {
                true => Selection::Chosen,
                false => Selection::LeftOut(format!("{VARIABLE} does not name {kind}")),
            });
        }
        let twin = match kind {
            BackendKind::ValkeyCluster => Some("`cluster` runs the same on Redis"),
            BackendKind::FredSentinel => Some("`fred` and `sentinel` run the same"),
            BackendKind::Redis8 => Some("`redis` runs the same on an older version"),
            BackendKind::Valkey9 => Some("`valkey` runs the same on an older version"),
            _ => None,
        };
        if let Some(twin) = twin {
            let why = format!("{VARIABLE} is not set, and {twin}");
            return Ok(Selection::LeftOut(why));
        }
        Ok(match kind.program() {
            Some(program) if !is_there(program) => Selection::LeftOut(format!(
                "{VARIABLE} is not set, and there is no {}",
                program.executable()
            )),
            _ => Selection::Chosen,
        })
    }
}

impl BackendKind {
    /// The server behind it.
    pub(super) fn program(self) -> Option<Program> {
        match self {
            BackendKind::Embedded => None,
            BackendKind::Redis
            | BackendKind::Tls
            | BackendKind::Cluster
            | BackendKind::Sentinel
            | BackendKind::Fred
            | BackendKind::FredSentinel => Some(Program::Redis),
            BackendKind::Valkey | BackendKind::ValkeyCluster => Some(Program::Valkey),
            BackendKind::Redis8 => Some(Program::Redis8),
            BackendKind::Valkey9 => Some(Program::Valkey9),
        }
    }
}

fn parse(name: &str) -> Result<BackendKind, Error> {
    if let Some(kind) = BackendKind::ALL.iter().find(|kind| kind.name() == name) {
        return Ok(*kind);
    }
    let known: Vec<_> = BackendKind::ALL.iter().map(|kind| kind.name()).collect();
    Err(Error::Backends(format!(
        "`{name}` is unknown; there are {}",
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kind: BackendKind, named: &str, there: bool) -> bool {
        Selection::of(kind, named, |_| there).unwrap() == Selection::Chosen
    }

    #[test]
    fn a_named_backend_runs_even_when_it_is_absent_and_no_other_does() {
        let named = " redis, tls ,";
        assert!(chosen(BackendKind::Redis, named, false));
        assert!(chosen(BackendKind::Tls, named, false));
        assert!(!chosen(BackendKind::Valkey, named, true));
        assert!(!chosen(BackendKind::Embedded, named, true));
    }

    #[test]
    fn with_none_named_what_is_there_runs() {
        for named in ["", " , "] {
            assert!(chosen(BackendKind::Embedded, named, false));
            assert!(chosen(BackendKind::Valkey, named, true));
            assert!(!chosen(BackendKind::Valkey, named, false));
            assert!(!chosen(BackendKind::Tls, named, false));
            assert!(chosen(BackendKind::Cluster, named, true));
            assert!(!chosen(BackendKind::Sentinel, named, false));
            assert!(!chosen(BackendKind::ValkeyCluster, named, true));
            assert!(!chosen(BackendKind::FredSentinel, named, true));
        }
        assert!(chosen(BackendKind::ValkeyCluster, "valkey_cluster", true));
        assert!(chosen(BackendKind::FredSentinel, "fred_sentinel", true));
    }

    #[test]
    fn a_name_that_cannot_be_followed_fails_every_test() {
        let error = Selection::of(BackendKind::Redis, "redis,reddis", |_| true).unwrap_err();
        assert!(error.to_string().contains("`reddis`"), "{error}");
    }
}
