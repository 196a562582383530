//! [`Finding`]: what was found, how bad it is, and what to do.

use serde::Serialize;

/// How bad a finding is. The worst of all is the program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Info,
    /// It works, and will not under some circumstances.
    Warning,
    /// Some pattern does not work, or loses what it promises to keep.
    Error,
}

impl Severity {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Severity::Ok | Severity::Info => 0,
            Severity::Warning => 1,
            Severity::Error => 2,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Info => "info",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        }
    }
}

/// One thing that was looked at. The fields are those of `--json`: see `docs/cli.md`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// A stable name: `eviction`, `clock`, …
    pub(crate) check: &'static str,
    pub(crate) server: Option<String>,
    pub(crate) severity: Severity,
    /// What was found; for a fault its cause.
    pub(crate) found: String,
    pub(crate) remedy: Option<String>,
    /// The patterns that it concerns; none for all.
    pub(crate) patterns: Vec<&'static str>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            server: None,
            severity: Severity::Ok,
            found: found.into(),
            remedy: None,
            patterns: Vec::new(),
        }
    }

    pub(crate) fn info(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            severity: Severity::Info,
            ..Self::ok(check, found)
        }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(check, found)
        }
    }

    pub(crate) fn error(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::warning(check, found, remedy)
        }
    }

    pub(crate) fn on(mut self, server: &str) -> Self {
        self.server = Some(server.to_owned());
        self
    }

    pub(crate) fn of(mut self, patterns: impl IntoIterator<Item = &'static str>) -> Self {
        self.patterns = patterns.into_iter().collect();
        self
    }
}
