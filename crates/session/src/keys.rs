//! The keys of a session and of its bucket, which share a slot.

use bytes::Bytes;
use redkit_core::{Key, Keyspace};

use crate::id::{self, BucketTag, SessionId};
use crate::secrets::SessionSecrets;

/// Bytes of a user's hash in keys.
const USER: usize = 16;

/// How a store names its keys.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) keyspace: Keyspace,
    pub(crate) secrets: SessionSecrets,
    /// Where it is announced that sessions have ended.
    pub(crate) channel: Bytes,
}

/// The five keys that every script has: see `scripts/bucket.lua`.
#[derive(Debug, Clone)]
pub(crate) struct SessionKeys {
    tag: BucketTag,
    hash: Box<str>,
    keys: [Key; 5],
    channel: Bytes,
}

/// Where a store announces that sessions have ended.
pub(crate) fn channel_of(keyspace: &Keyspace) -> Bytes {
    keyspace.key("ended").to_bytes()
}

/// The key of a named index's value, by its hash.
pub(crate) fn of_index(keyspace: &Keyspace, hash: &str) -> Key {
    keyspace.role_key(hash, "indexed")
}

impl SessionKeys {
    /// The keys of the session that a bucket knows under this hash.
    pub(crate) fn of_hash(
        keyspace: &Keyspace,
        channel: &Bytes,
        tag: BucketTag,
        hash: &str,
    ) -> Self {
        let bucket = tag.to_string();
        let of_bucket = |role| keyspace.role_key(bucket.as_str(), role);
        Self {
            tag,
            hash: hash.into(),
            channel: channel.clone(),
            keys: [
                keyspace.tagged_key(bucket.as_str(), "session", hash),
                of_bucket("generations"),
                of_bucket("index"),
                of_bucket("rows"),
                of_bucket("deadlines"),
            ],
        }
    }

    /// The hash of the id, under which the bucket knows the session.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// The bucket.
    pub(crate) fn tag(&self) -> BucketTag {
        self.tag
    }

    /// Where it is announced that the session has ended.
    pub(crate) fn channel(&self) -> &[u8] {
        &self.channel
    }

    pub(crate) fn all(&self) -> [&Key; 5] {
        let [session, generations, index, rows, deadlines] = &self.keys;
        [session, generations, index, rows, deadlines]
    }

    /// The key of the session itself.
    pub(crate) fn session(&self) -> &Key {
        let [session, ..] = &self.keys;
        session
    }
}

impl Names {
    pub(crate) fn new(keyspace: Keyspace, secrets: SessionSecrets) -> Self {
        Self {
            channel: channel_of(&keyspace),
            keyspace,
            secrets,
        }
    }

    /// The hash of a value of a named index.
    pub(crate) fn hash_of_index(&self, name: &str, value: &str) -> String {
        let hash = self.secrets.hash_index(name, value);
        id::text(hash.split_at(USER).0)
    }

    /// The key of a named index's value, by its hash.
    pub(crate) fn of_index(&self, hash: &str) -> Key {
        of_index(&self.keyspace, hash)
    }

    /// The keys of an id; `None` when its pepper is not known.
    pub(crate) fn of_id(&self, id: &SessionId) -> Option<SessionKeys> {
        let hash = self.secrets.hash_id(id.version(), id.bytes())?;
        Some(self.of_hash(id.tag(), &id::text(&hash)))
    }

    /// The keys of the session that a bucket knows under this hash.
    pub(crate) fn of_hash(&self, tag: BucketTag, hash: &str) -> SessionKeys {
        SessionKeys::of_hash(&self.keyspace, &self.channel, tag, hash)
    }

    /// A user's bucket, and the hash under which the bucket knows the user.
    pub(crate) fn of_user(&self, user: &str) -> (BucketTag, String) {
        let hash = self.secrets.hash_user(user.as_bytes());
        let (_, rest) = hash.split_at(hash.len() - USER);
        (BucketTag::of_hash(&hash), id::text(rest))
    }

    /// A short hash of an id for logs.
    pub(crate) fn log_id(&self, id: &SessionId) -> String {
        let hash = self.secrets.hash_for_log(id.bytes());
        id::text(hash.split_at(9).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pepper: u8) -> Names {
        let client = redkit_core::ClientConfig::from_url("embedded://").unwrap();
        let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
        let client = redkit_core::Client::from_backend(backend, &client).unwrap();
        let secrets = SessionSecrets::new(vec![1; 32], 1, vec![pepper; 32]).unwrap();
        Names::new(client.keyspace("session", "web").unwrap(), secrets)
    }

    #[test]
    fn the_keys_of_a_user_share_a_slot_and_show_no_id() {
        let names = names(2);
        let (tag, user) = names.of_user("user-7");
        assert_eq!((names.of_user("user-7").0, user.len()), (tag, 22));
        let id = SessionId::generate(1, Some(tag)).unwrap();
        let keys = names.of_id(&id).unwrap();
        let slot = keys.session().slot();
        assert!(keys.all().iter().all(|key| key.slot() == slot));
        let other = SessionId::generate(1, Some(tag)).unwrap();
        assert_eq!(names.of_id(&other).unwrap().session().slot(), slot);
        let exposed = id.expose();
        let text = secrecy::ExposeSecret::expose_secret(&exposed);
        assert!(!keys.session().to_string().contains(&text[4..]));
    }

    #[test]
    fn another_tag_version_or_pepper_is_another_key() {
        let (one, two) = (names(2), names(3));
        let id = SessionId::generate(1, None).unwrap();
        let key =
            |names: &Names, id: &SessionId| names.of_id(id).map(|keys| keys.session().clone());
        assert_ne!(key(&one, &id), key(&two, &id));
        assert!(key(&one, &SessionId::generate(9, None).unwrap()).is_none());
        // The tag is part of the hashed id: an id with a forged tag finds nothing.
        let exposed = id.expose();
        let text = secrecy::ExposeSecret::expose_secret(&exposed);
        let forged = SessionId::parse(&format!("AQAA{}", &text[4..])).unwrap();
        assert_ne!(
            one.of_id(&forged).unwrap().hash(),
            one.of_id(&id).unwrap().hash()
        );
    }
}
