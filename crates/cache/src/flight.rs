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
    state: Mutex<State<T>>,
}

struct State<T> {
    by_key: HashMap<Key, Flight<T>>,
    tasks: JoinSet<()>,
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
            state: Mutex::new(State {
                by_key: HashMap::new(),
                tasks: JoinSet::new(),
            }),
        }
    }

    /// Joins the flight of `key`, or starts one with `load`. Gives the outcome, and whether it was
    /// this call that started it.
    ///
    /// The flight goes on when the caller goes away. `owner` is how the flight finds back to take
    /// itself off the list; it must not keep the list alive.
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
        if let Some(flight) = self.state.lock().by_key.remove(key) {
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
        let mut state = self.state.lock();
        // Tasks that have ended are taken off here, so that the set stays as small as its life.
        while state.tasks.try_join_next().is_some() {}
        if let Some(flight) = state.by_key.get(key) {
            return (flight.outcome.clone(), false);
        }
        let void = Void::default();
        let (sender, outcome) = watch::channel(None);
        let load = load(void.clone());
        // Whatever ends the task, a panic included, takes the flight off the list.
        let landing = Landing {
            flights: Arc::downgrade(self),
            key: key.clone(),
            void: void.clone(),
        };
        state.tasks.spawn(async move {
            let result = load.await;
            sender.send_replace(Some(result));
            drop(landing);
        });
        state.by_key.insert(
            key.clone(),
            Flight {
                outcome: outcome.clone(),
                void,
            },
        );
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
        let mut state = flights.state.lock();
        // After `void` another flight may stand here.
        if state
            .by_key
            .get(&self.key)
            .is_some_and(|flight| flight.void.same(&self.void))
        {
            state.by_key.remove(&self.key);
        }
    }
}
