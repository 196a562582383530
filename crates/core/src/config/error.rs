//! [`ConfigError`]: what is wrong with a configuration, and what to write instead.

use std::borrow::Cow;

/// A configuration that cannot work: which field, why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config field `{field}`: {problem}; {fix}")]
pub struct ConfigError {
    field: Cow<'static, str>,
    problem: Cow<'static, str>,
    fix: Cow<'static, str>,
}

impl ConfigError {
    /// An error in `field`: what is wrong, and what to do about it.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// The same error of a field inside of another: `limit` within `login` is `login.limit`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field).into();
        self
    }

    /// The field's name, as in serde and (in capitals, after `REDKIT_`) in the environment.
    pub fn field(&self) -> &str {
        &self.field
    }
}
