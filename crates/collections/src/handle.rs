//! What all handles are made of: a client, a key and a time to live.

use redkit_core::{Client, Command, FromValue, Key, ToArg};

use crate::error::Error;
use crate::ttl::{TimeLeft, Ttl};
use crate::write::{Shape, write};

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) ttl: Option<Ttl>,
}

impl Handle {
    pub(crate) fn new(client: &Client, key: impl ToArg) -> Self {
        Self {
            client: client.clone(),
            key: client.key(key),
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

    pub(crate) async fn exists(&self) -> Result<bool, Error> {
        self.call(self.command("EXISTS")).await
    }

    pub(crate) async fn clear(&self) -> Result<bool, Error> {
        self.call(self.command("UNLINK")).await
    }

    pub(crate) async fn time_left(&self) -> Result<TimeLeft, Error> {
        Ok(TimeLeft::of_millis(self.call(self.command("PTTL")).await?))
    }
}

/// The operations that every handle has, and what makes it cheap to clone. The type holds a
/// [`Handle`] in `handle`.
macro_rules! operations_of_every_handle {
    ($name:ident $(<$item:ident>)?) => {
        impl $(<$item>)? $name $(<$item>)? {
            /// Gives the key a time to live with this handle's writes, each in one step with the
            /// write: see [`Ttl`](crate::Ttl).
            #[must_use]
            pub fn with_ttl(mut self, ttl: crate::Ttl) -> Self {
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
            pub async fn time_left(&self) -> Result<crate::TimeLeft, crate::Error> {
                self.handle.time_left().await
            }
        }

        impl $(<$item>)? std::fmt::Debug for $name $(<$item>)? {
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

/// An argument's bytes.
pub(crate) fn bytes_of(arg: impl ToArg) -> Vec<u8> {
    let mut bytes = Vec::new();
    arg.write_to(&mut bytes);
    bytes
}
