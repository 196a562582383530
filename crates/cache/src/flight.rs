//! Single flight: one load per key at a time, in a task of its own, its outcome shared by all who
//! wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redkit_core::Key;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::Error;

/// What a load ended with.
pub(crate) type Outcome<T> = Result<T, Error>;

/// The loads in progress. Dropping it ends them.
pub(crate) struct Flights<T> {
    by_key: Mutex<HashMap<Key, Flight<T>>>,
    /// Apart from the map, which a task that ends takes itself off: also one that ends as it is
    /// spawned, because the runtime is going down.
    tasks: Mutex<JoinSet<()>>,
}

struct Flight<T> {
    outcome: watch::Receiver<Option<Outcome<T>>>,
    void: Void,
}

/// Set once what a flight loads is out of date and must not be kept.
#[derive(Clone, Default)]
pub(crate) struct Void(Arc<AtomicBool>);

impl Void {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn same(&self, other: &Void) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self {
            by_key: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Joins the flight of `key`, or starts one with `load`. Gives the outcome, and whether it was
    /// this call that started it.
    ///
    /// The flight goes on when the caller goes away. `load` is the user's code, and runs without a
    /// lock; when two callers begin at the same time, what one of them made is dropped unused.
    pub(crate) async fn join<F, L>(self: &Arc<Self>, key: &Key, load: F) -> (Outcome<T>, bool)
    where
        F: FnOnce(Void) -> L,
        L: Future<Output = Outcome<T>> + Send + 'static,
    {
        let (mut outcome, started) = self.enter(key, load);
        let landed = outcome
            .wait_for(Option::is_some)
            .await
            .map(|outcome| (*outcome).clone());
        match landed {
            Ok(Some(outcome)) => (outcome, started),
            // The flight is gone without a word: its task panicked.
            Ok(None) | Err(_) => (Err(Error::LoaderPanicked), started),
        }
    }

    /// What is being loaded for `key` is out of date: it goes to those who wait for it already,
    /// but is not kept, and later callers do not join it.
    pub(crate) fn void(&self, key: &Key) {
        if let Some(flight) = self.by_key.lock().remove(key) {
            flight.void.0.store(true, Ordering::SeqCst);
        }
    }

    fn enter<F, L>(
        self: &Arc<Self>,
        key: &Key,
        load: F,
    ) -> (watch::Receiver<Option<Outcome<T>>>, bool)
    where
        F: FnOnce(Void) -> L,
        L: Future<Output = Outcome<T>> + Send + 'static,
    {
        if let Some(flight) = self.by_key.lock().get(key) {
            return (flight.outcome.clone(), false);
        }
        let void = Void::default();
        let (sender, outcome) = watch::channel(None);
        let load = load(void.clone());
        {
            let mut by_key = self.by_key.lock();
            if let Some(flight) = by_key.get(key) {
                return (flight.outcome.clone(), false);
            }
            let flight = Flight {
                outcome: outcome.clone(),
                void: void.clone(),
            };
            by_key.insert(key.clone(), flight);
        }
        // Whatever ends the task, a panic included, takes the flight off the list.
        let landing = Landing {
            flights: Arc::downgrade(self),
            key: key.clone(),
            void,
        };
        let mut tasks = self.tasks.lock();
        // Tasks that have ended are taken off here, so that the set stays as small as its life.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let result = load.await;
            sender.send_replace(Some(result));
            drop(landing);
        });
        (outcome, true)
    }
}

struct Landing<T> {
    flights: std::sync::Weak<Flights<T>>,
    key: Key,
    void: Void,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let Some(flights) = self.flights.upgrade() else {
            return;
        };
        let mut by_key = flights.by_key.lock();
        // After `void` another flight may stand here.
        if by_key
            .get(&self.key)
            .is_some_and(|flight| flight.void.same(&self.void))
        {
            by_key.remove(&self.key);
        }
    }
}
