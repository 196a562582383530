//! Entries under the current key of the codec.

use bytes::Bytes;

use crate::scripts;
use crate::session::Session;
use crate::user;

impl Session {
    /// Encrypts entries anew that an older key of the codec encrypts. When that fails, the next load tries it
    /// again.
    pub(crate) async fn reencode(&mut self) {
        let inner = self.store.inner();
        let codec = inner.client.codec();
        let Some(stored) = self.stored.as_ref().filter(|_| codec.is_encrypting()) else {
            return;
        };
        let renew = |bound_to: &Bytes, old: &Bytes| match old.is_empty() || codec.is_current(old) {
            true => None,
            false => codec.rewrap(bound_to, old).ok(),
        };
        let record = &stored.record;
        let bound_to = self.user_is_bound_to();
        let user = match record.user.is_empty() {
            true => user::encode(codec, &bound_to, None).ok(),
            false => renew(&bound_to, &record.user),
        };
        let entries: Vec<(Box<str>, Bytes, Bytes)> = record
            .entries
            .iter()
            .filter_map(|(name, entry)| {
                let renewed = renew(&self.bound_to(name), &entry.value)?;
                Some((name.clone(), entry.value.clone(), renewed))
            })
            .collect();
        if (user.is_none() && entries.is_empty()) || record.is_rotated() {
            return;
        }
        let user = (&record.user, user.as_ref().unwrap_or(&record.user));
        match scripts::reencode(&inner.client, &self.keys, user, &entries).await {
            Ok(entries) => {
                tracing::debug!(target: "redkit::session", entries, "entries were encrypted with the current key");
            }
            Err(error) => {
                tracing::debug!(target: "redkit::session", %error, "entries could not be encrypted with the current key");
            }
        }
        // A rotation copies them.
        let Some(stored) = &mut self.stored else {
            return;
        };
        for (name, _, renewed) in entries {
            if let Some(entry) = stored.record.entries.get_mut(&name) {
                entry.value = renewed;
            }
        }
    }
}
