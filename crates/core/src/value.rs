//! [`Value`]: a server's reply, and its conversion into Rust types.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use bytes::Bytes;

use crate::error::ServerError;

/// A reply, in the shapes of RESP3. Nothing in it is guessed: a bulk string that looks like a
/// number, an error or a push frame is a bulk string.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Value {
    /// No value.
    #[default]
    Nil,
    /// The status `OK`.
    Ok,
    /// Any other status line.
    Status(Box<str>),
    /// An integer.
    Int(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Items in order.
    Array(Vec<Value>),
    /// Pairs, in the order in which the server sent them.
    Map(Vec<(Value, Value)>),
    /// Items without order.
    Set(Vec<Value>),
    /// A floating-point number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// An integer beyond 64 bits, in decimal.
    BigNumber(Bytes),
    /// Text with a three-letter format (`txt`, `mkd`).
    Verbatim {
        /// The format.
        format: Box<str>,
        /// The text.
        text: Bytes,
    },
    /// An error inside an aggregate, as `EXEC` and scripts give them. An error that is the whole
    /// reply is [`CallError::Replied`](crate::CallError::Replied) instead.
    Error(ServerError),
}

impl Value {
    /// The bytes of a bulk string.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Value::Bulk(bytes.into())
    }

    /// A status line.
    pub fn status(status: &str) -> Self {
        match status {
            "OK" => Value::Ok,
            other => Value::Status(other.into()),
        }
    }

    /// What kind of reply this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Ok | Value::Status(_) => "status",
            Value::Int(_) => "integer",
            Value::Bulk(_) => "bulk string",
            Value::Array(_) => "array",
            Value::Map(_) => "map",
            Value::Set(_) => "set",
            Value::Double(_) => "double",
            Value::Bool(_) => "boolean",
            Value::BigNumber(_) => "big number",
            Value::Verbatim { .. } => "verbatim string",
            Value::Error(_) => "error",
        }
    }

    /// Converts into a Rust type.
    ///
    /// ```
    /// use redkit_core::Value;
    ///
    /// let reply = Value::Array(vec![Value::bulk("a"), Value::Nil]);
    /// assert_eq!(reply.to::<Vec<Option<String>>>()?, [Some("a".to_owned()), None]);
    /// assert!(Value::bulk("12x").to::<i64>().is_err());
    /// # Ok::<(), redkit_core::ValueError>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError`] when the reply has another shape or does not fit the type.
    pub fn to<T: FromValue>(self) -> Result<T, ValueError> {
        T::from_value(self)
    }
}

/// A reply had another shape than the one expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, the server replied with {got}")]
pub struct ValueError {
    /// What was expected.
    pub expected: &'static str,
    /// What came: the kind of reply, never its content.
    pub got: &'static str,
}

impl ValueError {
    fn new(expected: &'static str, got: &Value) -> Self {
        Self {
            expected,
            got: got.kind(),
        }
    }
}

/// Conversion from a reply.
#[diagnostic::on_unimplemented(
    message = "a reply cannot become a `{Self}`",
    label = "not a type that replies convert to",
    note = "replies convert to integers, `f64`, `bool`, `String`, `Bytes`, `()`, and options, vectors, pairs and maps of them",
    note = "for a value of your own take `Client::get` and `Client::set`, or ask for a `Value` and convert it"
)]
pub trait FromValue: Sized {
    /// Converts `value`.
    ///
    /// # Errors
    /// [`ValueError`] when the reply has another shape or does not fit.
    fn from_value(value: Value) -> Result<Self, ValueError>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        Ok(value)
    }
}

/// Accepts a status or nothing, which is what commands without a result give.
impl FromValue for () {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Ok | Value::Status(_) | Value::Nil => Ok(()),
            other => Err(ValueError::new("a status", &other)),
        }
    }
}

impl FromValue for Bytes {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Bulk(bytes) | Value::BigNumber(bytes) | Value::Verbatim { text: bytes, .. } => {
                Ok(bytes)
            }
            Value::Ok => Ok(Bytes::from_static(b"OK")),
            Value::Status(status) => Ok(Bytes::from(status.into_boxed_bytes().into_vec())),
            other => Err(ValueError::new("bytes", &other)),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        Bytes::from_value(value).map(Into::into)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        String::from_utf8(Vec::from_value(value)?).map_err(|_| ValueError {
            expected: "UTF-8 text",
            got: "bytes that are not UTF-8",
        })
    }
}

fn integer(value: Value) -> Result<i64, ValueError> {
    match value {
        Value::Int(number) => Ok(number),
        Value::Bulk(ref bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(ValueError::new("an integer", &value)),
        other => Err(ValueError::new("an integer", &other)),
    }
}

macro_rules! integer_from_value {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Result<Self, ValueError> {
                integer(value)?.try_into().map_err(|_| ValueError {
                    expected: concat!("an integer that fits ", stringify!($type)),
                    got: "an integer out of its range",
                })
            }
        }
    )*};
}
integer_from_value!(i64, i32, i16, u64, u32, u16, u8, usize);

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Double(number) => Ok(number),
            // Lossless up to 2^53, and the server's own numbers beyond that are doubles already.
            #[expect(
                clippy::cast_precision_loss,
                reason = "a count beyond 2^53 loses its last bits"
            )]
            Value::Int(number) => Ok(number as f64),
            Value::Bulk(ref bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(ValueError::new("a number", &value)),
            other => Err(ValueError::new("a number", &other)),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Bool(truth) => Ok(truth),
            Value::Int(0) | Value::Nil => Ok(false),
            Value::Int(1) | Value::Ok => Ok(true),
            other => Err(ValueError::new("a truth value", &other)),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Nil => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One implementation for lists of anything; bytes have their own, by `u8` not being a reply.
macro_rules! list_from_value {
    ($($type:ty),*) => {$(
        impl FromValue for Vec<$type> {
            fn from_value(value: Value) -> Result<Self, ValueError> {
                list(value)
            }
        }
    )*};
}
list_from_value!(
    Value,
    Bytes,
    String,
    i64,
    u64,
    f64,
    bool,
    Vec<u8>,
    Vec<Value>,
    Vec<String>,
    Vec<Bytes>
);

impl<T: FromValue> FromValue for Vec<Option<T>> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        list(value)
    }
}

impl<A: FromValue, B: FromValue> FromValue for Vec<(A, B)> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        pairs(value)?
            .into_iter()
            .map(|(a, b)| Ok((a.to()?, b.to()?)))
            .collect()
    }
}

impl<K: FromValue + Eq + Hash, V: FromValue> FromValue for HashMap<K, V> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        pairs(value)?
            .into_iter()
            .map(|(k, v)| Ok((k.to()?, v.to()?)))
            .collect()
    }
}

impl<K: FromValue + Ord, V: FromValue> FromValue for BTreeMap<K, V> {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        pairs(value)?
            .into_iter()
            .map(|(k, v)| Ok((k.to()?, v.to()?)))
            .collect()
    }
}

impl<A: FromValue, B: FromValue> FromValue for (A, B) {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match <[Value; 2]>::try_from(items(value)?) {
            Ok([a, b]) => Ok((a.to()?, b.to()?)),
            Err(_) => Err(ValueError {
                expected: "two items",
                got: "another number of items",
            }),
        }
    }
}

impl<A: FromValue, B: FromValue, C: FromValue> FromValue for (A, B, C) {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        match <[Value; 3]>::try_from(items(value)?) {
            Ok([a, b, c]) => Ok((a.to()?, b.to()?, c.to()?)),
            Err(_) => Err(ValueError {
                expected: "three items",
                got: "another number of items",
            }),
        }
    }
}

fn items(value: Value) -> Result<Vec<Value>, ValueError> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        other => Err(ValueError::new("a list", &other)),
    }
}

fn list<T: FromValue>(value: Value) -> Result<Vec<T>, ValueError> {
    items(value)?.into_iter().map(T::from_value).collect()
}

/// Pairs come as a map (RESP3), as a flat list (RESP2), or as a list of two-item lists (sorted
/// sets with scores in RESP3).
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, ValueError> {
    let items = match value {
        Value::Map(pairs) => return Ok(pairs),
        other => items(other)?,
    };
    if !items.is_empty()
        && items
            .iter()
            .all(|i| matches!(i, Value::Array(pair) if pair.len() == 2))
    {
        return items.into_iter().map(Value::to).collect();
    }
    if items.len() % 2 != 0 {
        return Err(ValueError {
            expected: "pairs",
            got: "an odd number of items",
        });
    }
    let mut items = items.into_iter();
    Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_three_shapes() {
        let expected = vec![("a".to_owned(), 1_i64), ("b".to_owned(), 2)];
        let (a, b) = (Value::bulk("a"), Value::bulk("b"));
        let map = Value::Map(vec![(a.clone(), Value::Int(1)), (b.clone(), Value::Int(2))]);
        let flat = Value::Array(vec![
            a.clone(),
            Value::bulk("1"),
            b.clone(),
            Value::bulk("2"),
        ]);
        let nested = Value::Array(vec![
            Value::Array(vec![a, Value::Int(1)]),
            Value::Array(vec![b, Value::Int(2)]),
        ]);
        for shape in [map, flat, nested] {
            assert_eq!(shape.to::<Vec<(String, i64)>>().unwrap(), expected);
        }
        assert!(
            Value::Array(vec![Value::Nil])
                .to::<Vec<(String, i64)>>()
                .is_err()
        );
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        assert_eq!(
            Value::Int(300).to::<u8>().unwrap_err().got,
            "an integer out of its range"
        );
        assert!(Value::Int(-1).to::<u64>().is_err());
        assert!(Value::bulk(" 1").to::<i64>().is_err());
        assert_eq!(Value::bulk("1.5").to::<f64>(), Ok(1.5));
    }

    #[test]
    fn an_error_does_not_carry_the_reply() {
        let error = Value::bulk("secret").to::<i64>().unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
