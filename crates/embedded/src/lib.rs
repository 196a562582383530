//! A Redis-compatible engine in the process, as a [`Backend`](redkit_core::Backend): the same commands, the same error
//! texts, the same Lua, and nothing to install.
//!
//! It is for trying things out, for tests without a server, for single-process programs and as a
//! local fallback. It is not a server: it has no socket and keeps nothing when it is dropped.
//! A command that it does not have is an `unknown command` error.
//!
//! Its clock is tokio's, so that a test can move time:
//!
//! ```
//! use std::time::Duration;
//!
//! use redkit_core::{Backend, Command, Value};
//! use redkit_embedded::Embedded;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), redkit_core::CallError> {
//! let engine = Embedded::new();
//! engine.call(&Command::new("SET").key("greeting").arg("hello").arg("EX").arg(60)).await?;
//! assert_eq!(engine.call(&Command::new("GET").key("greeting")).await?, Value::bulk("hello"));
//!
//! tokio::time::advance(Duration::from_secs(61)).await;
//! assert_eq!(engine.call(&Command::new("GET").key("greeting")).await?, Value::Nil);
//! # Ok(())
//! # }
//! ```
//!
//! Scripts run in Lua 5.1 with the libraries `redis`, `bit` and `cjson` beside Lua's own; `struct`
//! and `cmsgpack` are not there. The caller's thread runs them, so a script is ended after five
//! seconds, or when scripts together use more than 256 MB; what it wrote until then stays.
//!
//! Commands run one at a time under one lock, as on the server, and a call never waits for
//! anything else. What is stored lives as long as one clone of the [`Embedded`] that stored it,
//! or one of its dedicated sessions.

mod args;
mod backend;
mod blocking;
mod carried;
mod clock;
mod commands;
mod engine;
mod error;
mod glob;
mod keyspace;
mod number;
mod observers;
mod pubsub;
mod script;
mod session;
mod state;
mod tally;
mod tracking;
mod value;

pub use backend::Embedded;
