//! [`ToKey`]: what can name a key.

use bytes::Bytes;

use crate::client::Client;
use crate::command::ToArg;
use crate::keys::Key;

/// What can name a key. Text, bytes and integers are names in the client's namespace; a [`Key`] is
/// a full name already and is taken as it is, so that nothing is prefixed twice.
///
/// Implement it for types of your own, so that a key is written in one place:
///
/// ```
/// use redkit_core::{Client, Key, ToKey};
///
/// struct Cart(u64);
///
/// impl ToKey for Cart {
///     fn to_key(&self, client: &Client) -> Key {
///         client.key(format!("cart:{}", self.0))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot name a key",
    label = "not text, bytes, an integer or a `Key`",
    note = "write `format!(\"…\")`, or implement `ToKey` with `client.key(…)`"
)]
pub trait ToKey {
    /// The full name.
    fn to_key(&self, client: &Client) -> Key;

    /// Appends the full name to `buffer`; override it when that saves making a [`Key`].
    fn write_key(&self, client: &Client, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.to_key(client).as_bytes());
    }
}

impl ToKey for Key {
    fn to_key(&self, _: &Client) -> Key {
        self.clone()
    }

    fn write_key(&self, _: &Client, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.as_bytes());
    }
}

impl<K: ToKey + ?Sized> ToKey for &K {
    fn to_key(&self, client: &Client) -> Key {
        (**self).to_key(client)
    }

    fn write_key(&self, client: &Client, buffer: &mut Vec<u8>) {
        (**self).write_key(client, buffer);
    }
}

macro_rules! name_to_key {
    ($($type:ty),*) => {$(
        impl ToKey for $type {
            fn to_key(&self, client: &Client) -> Key {
                client.key(self)
            }

            fn write_key(&self, client: &Client, buffer: &mut Vec<u8>) {
                buffer.extend_from_slice(client.prefix().as_bytes());
                self.write_to(buffer);
            }
        }
    )*};
}
name_to_key!(
    str,
    String,
    [u8],
    Vec<u8>,
    Bytes,
    u8,
    u16,
    u32,
    u64,
    usize,
    i8,
    i16,
    i32,
    i64,
    isize
);

impl<const N: usize> ToKey for [u8; N] {
    fn to_key(&self, client: &Client) -> Key {
        client.key(self)
    }
}

/// A key as an argument, written where it stands.
pub(super) struct InNamespace<'a, K: ?Sized>(pub(super) &'a Client, pub(super) &'a K);

impl<K: ToKey + ?Sized> ToArg for InNamespace<'_, K> {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        self.1.write_key(self.0, buffer);
    }
}
