//! [`ToArg`]: what can stand as an argument.

use std::borrow::Cow;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

/// What can stand as an argument of a [`Command`](crate::Command).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a command",
    label = "not text, bytes or a number",
    note = "for a value of your own take `Client::set` or a collection, which encode it; or format it"
)]
pub trait ToArg {
    /// Appends the argument's bytes to `buffer`.
    fn write_to(&self, buffer: &mut Vec<u8>);

    /// The same bytes to be shared instead of copied, when that pays.
    fn shared(&self) -> Option<Bytes> {
        None
    }

    /// The argument's bytes, owned: for what outlives the call that was given the argument.
    fn to_bytes(&self) -> Bytes {
        self.shared().unwrap_or_else(|| {
            let mut buffer = Vec::new();
            self.write_to(&mut buffer);
            buffer.into()
        })
    }
}

/// From this length on sharing a buffer is cheaper than copying it.
pub(super) const WORTH_SHARING: usize = 16 * 1024;

impl ToArg for Bytes {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self);
    }

    fn shared(&self) -> Option<Bytes> {
        (self.len() >= WORTH_SHARING).then(|| self.clone())
    }
}

macro_rules! bytes_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn write_to(&self, buffer: &mut Vec<u8>) {
                buffer.extend_from_slice(self.as_ref());
            }

            fn shared(&self) -> Option<Bytes> {
                let bytes: &[u8] = self.as_ref();
                (bytes.len() >= WORTH_SHARING).then(|| Bytes::copy_from_slice(bytes))
            }
        }
    )*};
}
bytes_to_arg!(str, String, [u8], Vec<u8>);

macro_rules! integer_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn write_to(&self, buffer: &mut Vec<u8>) {
                buffer.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}
integer_to_arg!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! display_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn write_to(&self, buffer: &mut Vec<u8>) {
                // Writing to a Vec does not fail.
                let _ = write!(buffer, "{self}");
            }
        }
    )*};
}
display_to_arg!(
    char,
    std::net::IpAddr,
    std::net::Ipv4Addr,
    std::net::Ipv6Addr
);

macro_rules! pointer_to_arg {
    ($($pointer:ident),*) => {$(
        impl<T: ToArg + ?Sized> ToArg for $pointer<T> {
            fn write_to(&self, buffer: &mut Vec<u8>) {
                (**self).write_to(buffer);
            }

            fn shared(&self) -> Option<Bytes> {
                (**self).shared()
            }
        }
    )*};
}
pointer_to_arg!(Box, Rc, Arc);

impl<T: ToArg + ToOwned + ?Sized> ToArg for Cow<'_, T> {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        (**self).write_to(buffer);
    }
}

/// Written in the shortest form that reads back as the same number; infinities as `inf` and
/// `-inf`, as the server expects them.
impl ToArg for f64 {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.to_string().as_bytes());
    }
}

impl<const N: usize> ToArg for [u8; N] {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self);
    }
}

impl<T: ToArg + ?Sized> ToArg for &T {
    fn write_to(&self, buffer: &mut Vec<u8>) {
        (**self).write_to(buffer);
    }

    fn shared(&self) -> Option<Bytes> {
        (**self).shared()
    }
}
