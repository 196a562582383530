//! What a world does to its processes, seen from inside them.

mod clocks;
mod network;
mod runs;
mod servers;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::Command;

use super::*;

const SERVER: ServerId = ServerId(0);

/// What processes have seen, in the order in which they did.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }
}

/// A world, and what its processes have seen.
struct Stage {
    world: World,
    seen: Seen,
}

impl Stage {
    fn new() -> Self {
        Self::of_seed(1)
    }

    fn of_seed(seed: u64) -> Self {
        Self {
            world: World::new(seed, WorldOptions::new()),
            seen: Seen::default(),
        }
    }

    /// A process that notes what it sees.
    fn process<B>(&mut self, body: impl Fn(Process, Seen) -> B + 'static) -> ProcessId
    where
        B: Future<Output = ()> + Send + 'static,
    {
        let seen = self.seen.clone();
        self.world
            .process("p", move |process| body(process, seen.clone()))
    }

    fn seen(&self) -> Vec<String> {
        self.seen.0.lock().clone()
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let value = self.ask(SERVER, Command::new("GET").key(key)).unwrap();
        value.to().unwrap()
    }
}

impl Deref for Stage {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn incr() -> Command {
    Command::new("INCR").key("n")
}
