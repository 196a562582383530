//! What all handles are made of: a client, a key and a time to live.

use std::ptr;
use std::sync::Arc;

use redkit_core::{Client, Command, FromValue, Key, ToArg, ToKey, Ttl, check_same_slot};

use crate::error::Error;
use crate::lifetime::Lifetime;
use crate::write::{Shape, write};

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) ttl: Option<Lifetime>,
}

impl Handle {
    pub(crate) fn new(client: &Client, key: impl ToKey) -> Self {
        Self {
            client: client.clone(),
            key: key.to_key(client),
            ttl: None,
        }
    }

    /// A command whose first argument is the key.
    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(name).key(&self.key)
    }

    pub(crate) async fn call<R: FromValue>(&self, command: Command) -> Result<R, Error> {
        Ok(self.client.call(command).await?)
    }

    /// Carries out a write that may create the key, and gives it its time.
    pub(crate) async fn write<R: FromValue>(
        &self,
        command: Command,
        shape: Shape,
    ) -> Result<R, Error> {
        write(&self.client, &self.key, self.ttl, command, shape).await
    }

    /// Refuses an operation with a handle of another client: it would go to this one's server,
    /// where the other's data may not be. Clones of a client are the same.
    pub(crate) fn check_same_client(&self, other: &Handle) -> Result<(), Error> {
        let [own, others] = [&self.client, &other.client].map(|c| Arc::as_ptr(c.backend()));
        if ptr::addr_eq(own, others) {
            return Ok(());
        }
        let problem = format!(
            "the handles of `{}` and `{}` are of different clients",
            self.key, other.key
        );
        let fix = "make both with one client, or with clones of it";
        Err(Error::invalid("client", problem, fix))
    }

    pub(crate) async fn exists(&self) -> Result<bool, Error> {
        self.call(self.command("EXISTS")).await
    }

    pub(crate) async fn clear(&self) -> Result<bool, Error> {
        self.call(self.command("UNLINK")).await
    }

    pub(crate) async fn time_left(&self) -> Result<Ttl, Error> {
        Ok(self.client.ttl(&self.key).await?)
    }
}

/// The operations that every handle has, and what makes it cheap to clone. The type holds a
/// [`Handle`] in `handle`.
macro_rules! operations_of_every_handle {
    ($name:ident $(<$($item:ident),+>)?) => {
        impl $(<$($item),+>)? $name $(<$($item),+>)? {
            /// Gives the key a time to live with this handle's writes, each in one step with the
            /// write: see [`Lifetime`](crate::Lifetime).
            #[must_use]
            pub fn with_ttl(mut self, ttl: crate::Lifetime) -> Self {
                self.handle.ttl = Some(ttl);
                self
            }

            /// The full key, in the client's namespace.
            pub fn key(&self) -> &redkit_core::Key {
                &self.handle.key
            }

            /// Whether the key is there. One round trip, O(1).
            pub async fn exists(&self) -> Result<bool, crate::Error> {
                self.handle.exists().await
            }

            /// Removes the key with everything in it; says whether it was there. One round trip;
            /// the server frees the memory in the background.
            pub async fn clear(&self) -> Result<bool, crate::Error> {
                self.handle.clear().await
            }

            /// How long the key still lives. One round trip, O(1).
            pub async fn time_left(&self) -> Result<redkit_core::Ttl, crate::Error> {
                self.handle.time_left().await
            }
        }

        impl $(<$($item),+>)? std::fmt::Debug for $name $(<$($item),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("key", &self.handle.key)
                    .field("ttl", &self.handle.ttl)
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use operations_of_every_handle;

/// On a cluster, refuses a command whose keys lie on different slots, before it is sent.
pub(crate) fn check_slots(client: &Client, command: &Command) -> Result<(), Error> {
    Ok(check_same_slot(client, command.name(), command.keys())?)
}

/// An argument's bytes.
pub(crate) fn bytes_of(arg: impl ToArg) -> Vec<u8> {
    let mut bytes = Vec::new();
    arg.write_to(&mut bytes);
    bytes
}
