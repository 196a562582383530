//! Parts of scripts, for [`Script::of_parts`](crate::Script::of_parts). Each file's header says what
//! the part defines and what it needs before it.

/// `now`: the server's clock in microseconds since 1970, read once.
pub const CLOCK: &str = include_str!("lua/clock.lua");

/// `wake_up(channel, name, payload)`: tells the processes that wait for `name`. See
/// [`Client::waiter`](crate::Client::waiter).
pub const WAKE_UP: &str = include_str!("lua/wake_up.lua");

/// `queue_look`, `queue_join`, `queue_leave`, `queue_wake` and `queue_close`: a queue of waiters, first come,
/// first served. Needs [`CLOCK`] and [`WAKE_UP`] before it. See [`QueuedCaller`](super::QueuedCaller).
pub const WAIT_QUEUE: &str = include_str!("lua/wait_queue.lua");

pub(super) const LEAVE_QUEUE: &str = include_str!("lua/leave_queue.lua");
