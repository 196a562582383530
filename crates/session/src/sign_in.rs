//! [`SignIn`]: whose a session becomes.

use std::fmt;

use crate::builder::Lifetime;
use crate::error::Error;
use crate::indexes;
use crate::keys::Names;

/// How many named indexes a session has at most.
const MOST_INDEXES: usize = 8;

/// A user's sign-in, for [`Session::sign_in`](crate::Session::sign_in).
#[derive(Clone)]
#[must_use = "it does nothing until `Session::sign_in`"]
pub struct SignIn {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) lifetime: Option<Lifetime>,
    indexes: Vec<(String, String)>,
}

impl SignIn {
    /// Of this user, by the name that never changes.
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            device: String::new(),
            lifetime: None,
            indexes: Vec::new(),
        }
    }

    /// What the [list](crate::SessionStore::sessions_of) of sessions shows, such as "Firefox on Linux".
    /// Cut after 200 characters.
    pub fn device(mut self, device: &str) -> Self {
        self.device = device.chars().take(200).collect();
        self
    }

    /// Timeouts of their own for this session, such as for "remember me". Default: the store's. The idle timeout is
    /// longer than the store's [`touch_granularity`](crate::SessionStoreBuilder::touch_granularity), or the sign-in is
    /// refused.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Makes the session known under a name and a value besides its user, such as `sid` and what an identity
    /// provider calls its session, for [`SessionStore::revoke_indexed`](crate::SessionStore::revoke_indexed).
    /// At most 8; each costs two round trips at the sign-in and four at every
    /// rotation. Redis has a keyed hash of
    /// the value only.
    pub fn index(mut self, name: &str, value: &str) -> Self {
        self.indexes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The hashes of the indexes, with a space between them.
    pub(crate) fn index_hashes(&self, names: &Names) -> Result<String, Error> {
        if self.indexes.len() > MOST_INDEXES {
            return Err(Error::Index);
        }
        let hashes: Result<Vec<String>, Error> = self
            .indexes
            .iter()
            .map(|(name, value)| {
                indexes::check(name, value)?;
                Ok(names.hash_of_index(name, value))
            })
            .collect();
        Ok(hashes?.join(" "))
    }
}

/// Without the user's name, and without the indexes' values.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("device", &self.device)
            .field("lifetime", &self.lifetime)
            .field("indexes", &self.indexes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_shows_neither_its_user_nor_its_indexes() {
        let sign_in = SignIn::new("ann@example.org").index("sid", "secret-sid");
        let shown = format!("{sign_in:?}");
        assert!(
            !shown.contains("ann") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
