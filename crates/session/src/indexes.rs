//! Named indexes: sessions that are found by something else than their id or their user, such as the `sid`
//! of an identity provider.
//!
//! An index lies in another slot than its sessions, so that no step covers both. The order makes up for it:
//! a session is noted in the index before it is stored, and looked up there once more before its id is given
//! out. A revocation marks what is noted before it ends the sessions. Whichever comes first, the other one
//! sees it.

use std::time::Duration;

use redkit_core::{Client, Invocation, Key, Keyspace, Script};

use crate::error::Error;
use crate::id::BucketTag;
use crate::keys::{self, SessionKeys};
use crate::scripts::{self, Deadline, Ended, micros};
use crate::store::SessionStore;

static ADD: Script = Script::new(include_str!("scripts/index_add.lua"));
static REVOKE: Script = Script::new(include_str!("scripts/index_revoke.lua"));
static CONFIRM: Script = Script::new(include_str!("scripts/index_confirm.lua"));
static REMOVE: Script = Script::new(include_str!("scripts/index_remove.lua"));

/// Sessions under one value of an index.
const MOST: u32 = 1_000;
/// Bytes of a name, and of a value.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1_024;

impl SessionStore {
    /// Ends all sessions that [were signed in](crate::SignIn::index) with this value of a named index, and
    /// gives how many there were: for a back-channel logout, where an identity provider names its `sid`.
    ///
    /// When it returns without an error, no session loads any more that was noted in the index before, also by a
    /// sign-in or a rotation that is under way: that ends with [`Error::Gone`]. (A sign-in whose first step
    /// reaches Redis later is another, and its session lives.) One round trip, two more when there are
    /// sessions, and one for each of them.
    ///
    /// # Errors
    /// [`Error::Index`] for a name or a value that cannot be; [`Error::Core`]: then some sessions may not have
    /// ended. Call it again: it finds those that are left.
    pub async fn revoke_indexed(&self, name: &str, value: &str) -> Result<u64, Error> {
        check(name, value)?;
        let inner = self.inner();
        let key = inner
            .names
            .of_index(&inner.names.hash_of_index(name, value));
        // Marked twice is as good as once.
        let call = REVOKE.invoke([&key]).idempotent(true);
        let sessions: Vec<String> = inner.client.eval(call).await?;
        let mut ended = 0;
        for session in &sessions {
            let found = session
                .split_once(':')
                .and_then(|(tag, hash)| Some((BucketTag::parse(tag)?, hash)));
            let Some((tag, hash)) = found else { continue };
            let keys = inner.names.of_hash(tag, hash);
            // What it became by a rotation is noted as well, unless the user has signed in without it since.
            if let Ended::Done { indexes, .. } = scripts::end(&inner.client, &keys, "", "").await? {
                ended += 1;
                forget(&inner.client, &inner.names.keyspace, &indexes, &keys).await;
            }
        }
        if !sessions.is_empty() {
            let call = REMOVE.invoke([&key]).idempotent(true);
            let call = sessions
                .iter()
                .fold(call, |call, one| call.arg(one.as_str()));
            let _: i64 = inner.client.eval(call).await?;
        }
        Ok(ended)
    }
}

/// Whether a name and a value can be those of an index.
pub(crate) fn check(name: &str, value: &str) -> Result<(), Error> {
    let is_name = (1..=LONGEST_NAME).contains(&name.len()) && !name.contains('\0');
    match is_name && (1..=LONGEST_VALUE).contains(&value.len()) {
        true => Ok(()),
        false => Err(Error::Index),
    }
}

/// Notes a session that is about to be stored in its indexes.
pub(crate) async fn add(
    store: &SessionStore,
    indexes: &str,
    keys: &SessionKeys,
    deadline: Deadline,
) -> Result<(), Error> {
    let inner = store.inner();
    let (lifetime, absolute) = times(deadline);
    for key in keys_of(store, indexes) {
        // Not repeated: a first attempt that came late would undo a revocation.
        let call = ADD
            .invoke([&key])
            .arg(member(keys))
            .arg(lifetime.as_str())
            .arg(absolute.as_str())
            .arg(MOST)
            .arg("");
        if inner.client.eval::<i64>(call).await? == 0 {
            return Err(Error::IndexFull { sessions: MOST });
        }
    }
    Ok(())
}

/// The calls that let the places of a session run out after this time, where it still has them and no revocation
/// is under way, for the release queue.
pub(crate) fn shorten_calls(
    keyspace: &Keyspace,
    indexes: &str,
    keys: &SessionKeys,
    lifetime: Duration,
) -> Vec<Invocation> {
    let key = |hash| keys::of_index(keyspace, hash);
    let call = |key: Key| {
        let call = ADD.invoke([&key]).arg(member(keys)).arg(micros(lifetime));
        let call = call.arg("").arg(MOST).arg("present");
        // A first attempt that comes late undoes no revocation, and leaves the place for a while longer.
        call.idempotent(true)
    };
    indexes.split_whitespace().map(key).map(call).collect()
}

/// A deadline as the script has it: a lifetime, or the time.
fn times(deadline: Deadline) -> (String, String) {
    match deadline {
        Deadline::After(lifetime) => (micros(lifetime).to_string(), String::new()),
        Deadline::At(absolute) => (String::new(), absolute.to_string()),
    }
}

/// Whether no index of a session was revoked since it was noted there.
pub(crate) async fn confirm(
    store: &SessionStore,
    indexes: &str,
    keys: &SessionKeys,
) -> Result<bool, Error> {
    let client: &Client = &store.inner().client;
    for key in keys_of(store, indexes) {
        let call = CONFIRM.invoke([&key]).arg(member(keys)).idempotent(true);
        if client.eval::<i64>(call).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes a session that has ended, or never was, out of its indexes. What cannot be taken out now is pruned by its
/// deadline.
pub(crate) async fn forget(
    client: &Client,
    keyspace: &Keyspace,
    indexes: &str,
    keys: &SessionKeys,
) {
    for call in forget_calls(keyspace, indexes, keys) {
        if let Err(error) = client.eval::<i64>(call).await {
            tracing::debug!(target: "redkit::session", %error, "an index keeps a session that has ended until its deadline");
        }
    }
}

/// The calls of [`forget`], for the release queue.
pub(crate) fn forget_calls(
    keyspace: &Keyspace,
    indexes: &str,
    keys: &SessionKeys,
) -> Vec<Invocation> {
    let key = |hash| keys::of_index(keyspace, hash);
    // Taken out twice is as good as once.
    let call = |key: Key| REMOVE.invoke([&key]).arg(member(keys)).idempotent(true);
    indexes.split_whitespace().map(key).map(call).collect()
}

fn member(keys: &SessionKeys) -> String {
    format!("{}:{}", keys.tag(), keys.hash())
}

fn keys_of(store: &SessionStore, indexes: &str) -> Vec<Key> {
    let names = &store.inner().names;
    let hashes = indexes.split_whitespace();
    hashes.map(|hash| names.of_index(hash)).collect()
}

/// How long what a dropped or failed step leaves is tried to be undone.
pub(crate) const UNDONE_FOR: Duration = Duration::from_secs(60);
