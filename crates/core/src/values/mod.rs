//! Keys and values: what a [`Client`](crate::Client) does with keys of any type, and with values
//! that are its codec's.
//!
//! Everything here names keys through [`ToKey`]: text, bytes and numbers are put into the
//! client's namespace, a [`Key`](crate::Key) is taken as it is.

mod counting;
mod expiry;
mod get;
mod group;
mod key;
mod key_commands;
mod key_type;
mod many;
mod pattern;
mod pipeline;
mod queue;
mod reply;
mod same_slot;
mod scan;
mod set;
mod set_options;
mod swap;
mod sweep;
mod transaction;
mod unlink;
mod update;

pub use self::counting::RandomKey;
pub use self::expiry::{ExpireIf, Expiry, Ttl};
pub use self::get::Stored;
pub use self::group::{Group, Grouping, Groups};
pub use self::key::ToKey;
pub use self::key_type::KeyType;
pub use self::many::SetItem;
pub use self::pattern::Pattern;
pub use self::pipeline::Pipeline;
pub use self::queue::{Queued, Replies};
pub use self::same_slot::check_same_slot;
pub use self::scan::{Scan, ScanStream};
pub use self::set::{Conditional, Previous, Unconditional, Write, WriteMode};
pub use self::set_options::SetOptions;
pub use self::swap::{ReencodeOutcome, Swap};
pub use self::sweep::{Sweep, SweepReport};
pub use self::transaction::Transaction;
pub use self::unlink::Deleted;
pub use self::update::{Change, Update};
