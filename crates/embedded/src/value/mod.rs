//! What a key can hold.

mod hash;
pub(crate) mod sorted_set;
pub(crate) mod stream;
mod weight;

use std::collections::VecDeque;

use bytes::Bytes;
use indexmap::IndexSet;

pub(crate) use self::hash::Hash;
use self::sorted_set::SortedSet;
use self::stream::Stream;

pub(crate) type List = VecDeque<Bytes>;
pub(crate) type Set = IndexSet<Bytes>;

/// The value of a key.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    String(Bytes),
    List(List),
    Hash(Hash),
    Set(Set),
    SortedSet(SortedSet),
    Stream(Stream),
}

impl Data {
    /// The name that `TYPE` gives.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Data::String(_) => "string",
            Data::List(_) => "list",
            Data::Hash(_) => "hash",
            Data::Set(_) => "set",
            Data::SortedSet(_) => "zset",
            Data::Stream(_) => "stream",
        }
    }

    /// When the first field of a hash expires.
    pub(crate) fn next_field_expiry(&self) -> Option<i64> {
        match self {
            Data::Hash(hash) => hash.next_expiry(),
            _ => None,
        }
    }

    /// An aggregate without items, which is a key that does not exist. Streams stay.
    pub(crate) fn is_empty_aggregate(&self) -> bool {
        match self {
            Data::String(_) | Data::Stream(_) => false,
            Data::List(list) => list.is_empty(),
            Data::Hash(hash) => hash.is_empty(),
            Data::Set(set) => set.is_empty(),
            Data::SortedSet(set) => set.is_empty(),
        }
    }
}

/// One of the types that a key can hold.
pub(crate) trait Kind: Sized {
    fn of(data: &Data) -> Option<&Self>;
    fn of_mut(data: &mut Data) -> Option<&mut Self>;
    fn into_data(self) -> Data;
}

macro_rules! kind {
    ($type:ty, $variant:ident) => {
        impl Kind for $type {
            fn of(data: &Data) -> Option<&Self> {
                match data {
                    Data::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn of_mut(data: &mut Data) -> Option<&mut Self> {
                match data {
                    Data::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn into_data(self) -> Data {
                Data::$variant(self)
            }
        }
    };
}
kind!(Bytes, String);
kind!(List, List);
kind!(Hash, Hash);
kind!(Set, Set);
kind!(SortedSet, SortedSet);
kind!(Stream, Stream);
