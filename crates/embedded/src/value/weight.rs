//! How large values are, and how the server would store them.

use bytes::Bytes;

use super::{Data, Hash};
use crate::args::parse_integer;

/// What an item of a collection costs beside its bytes, roughly.
const ITEM_BYTES: usize = 48;
/// Items that are looked at; the others are taken to be like them.
const SAMPLE: usize = 64;
/// Up to here the server stores collections compactly.
const COMPACT_ITEMS: usize = 128;
const COMPACT_BYTES: usize = 64;
const COMPACT_INTEGERS: usize = 512;

impl Data {
    /// A rough number of bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Data::String(value) => value.len(),
            Data::List(list) => extrapolated(list.len(), list.iter().map(Bytes::len)),
            Data::Hash(hash) => extrapolated(hash.len(), field_lens(hash)),
            Data::Set(set) => extrapolated(set.len(), set.iter().map(Bytes::len)),
            // The score, twice the handle of the member.
            Data::SortedSet(set) => {
                extrapolated(set.len(), set.iter().map(|(member, _)| member.len() + 56))
            }
            Data::Stream(stream) => stream.weight(),
        }
    }

    /// How Redis 7.0 would store a value of this size that was written at once: the engine has one
    /// form for each type.
    pub(crate) fn encoding(&self) -> &'static str {
        let short = |item: &Bytes| item.len() <= COMPACT_BYTES;
        match self {
            Data::String(value) if parse_integer(value).is_some() => "int",
            Data::String(value) if value.len() <= 44 => "embstr",
            Data::String(_) => "raw",
            Data::List(_) => "quicklist",
            Data::Hash(hash) => match hash.len() <= COMPACT_ITEMS
                && hash
                    .iter()
                    .all(|(field, value)| short(field) && short(value))
            {
                true => "listpack",
                false => "hashtable",
            },
            Data::Set(set) => match set.len() <= COMPACT_INTEGERS
                && set.iter().all(|member| parse_integer(member).is_some())
            {
                true => "intset",
                false => "hashtable",
            },
            Data::SortedSet(set) => {
                match set.len() <= COMPACT_ITEMS && set.iter().all(|(member, _)| short(member)) {
                    true => "listpack",
                    false => "skiplist",
                }
            }
            Data::Stream(_) => "stream",
        }
    }
}

fn field_lens(hash: &Hash) -> impl Iterator<Item = usize> {
    hash.iter()
        .map(|(field, value)| field.len() + value.len() + ITEM_BYTES / 2)
}

fn extrapolated(len: usize, lens: impl Iterator<Item = usize>) -> usize {
    let (mut looked_at, mut bytes) = (0, 0);
    for len in lens.take(SAMPLE) {
        looked_at += 1;
        bytes += len + ITEM_BYTES;
    }
    match looked_at {
        0 => 0,
        looked_at => bytes.saturating_mul(len) / looked_at,
    }
}
