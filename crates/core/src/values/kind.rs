//! [`Kind`]: the type of a key.

use std::fmt;

/// The type of a key's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A string: values, counters, bitmaps.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A hash.
    Hash,
    /// A stream.
    Stream,
    /// A type of a server's module, by its name.
    Other(Box<str>),
}

impl Kind {
    /// As the server calls it.
    pub fn name(&self) -> &str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
            Kind::Other(name) => name,
        }
    }

    /// From the reply to `TYPE`; `None` for no key.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "none" => return None,
            "string" => Kind::String,
            "list" => Kind::List,
            "set" => Kind::Set,
            "zset" => Kind::SortedSet,
            "hash" => Kind::Hash,
            "stream" => Kind::Stream,
            other => Kind::Other(other.into()),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
