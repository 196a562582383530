//! core
mod backend;
mod command;
mod config;
mod error;
mod push;
mod value;

pub use backend::{Backend, Capabilities, ConnectionState, ServerKind, Topology};
pub use command::{Command, ToArg};
pub use config::ConfigError;
pub use error::{CallError, Error, ErrorKind, Fault, FaultKind, ServerError};
pub use push::{GapReason, Interest, Push, PushSink, PushStream, push_channel};
pub use value::{FromValue, Value, ValueError};
