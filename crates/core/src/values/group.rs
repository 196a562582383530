//! [`Grouping`]: keys grouped by a part of their names.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::scan::{Pages, Scan};
use crate::error::Error;

/// Groups the keys that a scan finds by the part that its pattern
/// [captures](crate::Pattern::capture): see [`Scan::group`].
///
/// ```
/// # use redkit_core::{Client, ClientConfig};
/// use redkit_core::Pattern;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
/// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = Client::from_backend(engine, &ClientConfig::default())?;
/// for key in ["order:1:head", "order:1:lines", "order:2:head"] {
///     client.set(key, "x").await?;
/// }
/// let pattern = Pattern::starting("order:").capture().literal(":").any();
/// let orders = client.scan(pattern).group().run().await?;
/// assert_eq!(orders.groups[&b"1"[..]].count, 2);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing is sent before `run`"]
pub struct Grouping {
    scan: Scan,
    most_groups: usize,
    most_keys: usize,
}

/// What a [`Grouping`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Groups {
    /// The groups by the captured part, in its order.
    pub groups: BTreeMap<Bytes, Group>,
    /// Keys whose group was not among the first that there was room for.
    pub left_over: u64,
}

/// The keys of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// How many keys were found, twice those that were found twice.
    pub count: u64,
    /// The first of them, without the namespace: as many as [`Grouping::keys_per_group`] says.
    pub keys: Vec<Bytes>,
}

impl Grouping {
    pub(super) fn new(scan: Scan) -> Self {
        Self {
            scan,
            most_groups: 1000,
            most_keys: 0,
        }
    }

    /// How many groups are kept at most; 1,000 at first. Keys of further ones are only counted, so
    /// that memory stays bounded whatever is found.
    pub fn max_groups(mut self, groups: usize) -> Self {
        self.most_groups = groups;
        self
    }

    /// How many keys of each group are kept; none at first.
    pub fn keys_per_group(mut self, keys: usize) -> Self {
        self.most_keys = keys;
        self
    }

    /// Goes through all masters. Cost and errors are those of the [`Scan`].
    ///
    /// # Errors
    /// [`Error::Call`] when a page could not be had, and before anything is sent when the pattern
    /// does not capture exactly one part.
    pub async fn run(self) -> Result<Groups, Error> {
        let capturer = self.scan.pattern().capturer()?;
        let client = self.scan.client().clone();
        let mut pages = Pages::new(self.scan);
        let mut found = Groups::default();
        while let Some(page) = pages.next().await {
            for key in page? {
                let Some(own) = client.strip(&key) else {
                    continue;
                };
                let Some(name) = capturer.find(own) else {
                    continue;
                };
                let is_new = !found.groups.contains_key(name);
                if is_new && found.groups.len() >= self.most_groups {
                    found.left_over += 1;
                    continue;
                }
                // Copies: a slice would keep its whole page in memory.
                let group = match is_new {
                    true => found
                        .groups
                        .entry(Bytes::copy_from_slice(name))
                        .or_default(),
                    false => match found.groups.get_mut(name) {
                        Some(group) => group,
                        None => continue,
                    },
                };
                group.count += 1;
                if group.keys.len() < self.most_keys {
                    group.keys.push(Bytes::copy_from_slice(own));
                }
            }
        }
        Ok(found)
    }
}
