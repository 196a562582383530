//! Single flight in the process: one load per key at a time, its outcome shared by all who wait
//! for it, as far as it is young enough for them.
//!
//! Who asks after an invalidation was acknowledged must not be given what was read before it. A
//! flight therefore counts its stages, and every outcome says up to which stage it is good: a value
//! that was read from the source is good for those who boarded before the reading began, and one
//! that Redis accepted under the lease for those who boarded before it was sent. Others ask again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use redkit_core::Key;
use tokio::sync::watch;

/// The flights in progress.
pub(crate) struct Flights<T> {
    by_key: Mutex<HashMap<Key, Arc<Flight<T>>>>,
}

struct Flight<T> {
    state: watch::Sender<State<T>>,
    stage: AtomicU32,
    /// The stage at which the last one boarded.
    last_boarded: AtomicU32,
    /// The leading end, while nobody has taken it.
    unclaimed: Weak<Mutex<Option<Lead<T>>>>,
}

enum State<T> {
    Flying,
    Landed {
        outcome: T,
        good_for: u32,
        /// The next flight, for those who came too late for this one.
        next: Option<Next<T>>,
    },
    /// Its leading end is gone.
    Lost,
}

/// A flight that those have boarded already who came too late for the one before. Whoever is first
/// leads it. When none is left, nothing of it is.
struct Next<T> {
    flight: Arc<Flight<T>>,
    lead: Arc<Mutex<Option<Lead<T>>>>,
}

/// An outcome that is good for everybody: an error, say.
pub(crate) const ALL: u32 = u32::MAX;

/// What a caller found when it boarded.
pub(crate) enum Boarding<T> {
    /// It leads a flight of its own, and waits for it like any other.
    Lead(Lead<T>, Passenger<T>),
    /// Another leads.
    Joined(Passenger<T>),
}

/// The leading end. Dropping it ends the flight without an outcome.
pub(crate) struct Lead<T> {
    flights: Weak<Flights<T>>,
    key: Key,
    flight: Arc<Flight<T>>,
}

/// The waiting end.
pub(crate) struct Passenger<T> {
    state: watch::Receiver<State<T>>,
    boarded_at: u32,
}

/// How a flight ended for one of those who waited.
pub(crate) enum Arrival<T> {
    Outcome(T),
    /// What it gave is too old for this one, who has boarded the next, which begins after that.
    TooOld(Boarding<T>),
    /// It ended without an outcome: its task panicked or was ended.
    Lost,
}

impl<T: Clone> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            by_key: Mutex::default(),
        })
    }

    /// Boards the flight of `key`, or starts one; with `anew` it starts one in any case, which
    /// others board from then on.
    pub(crate) fn board(self: &Arc<Self>, key: &Key, anew: bool) -> Boarding<T> {
        let mut by_key = self.by_key.lock();
        if let Some(flight) = by_key.get(key)
            && !anew
        {
            let passenger = flight.board();
            let unclaimed = flight.unclaimed.upgrade();
            drop(by_key);
            return match unclaimed.and_then(|lead| lead.lock().take()) {
                Some(lead) => Boarding::Lead(lead, passenger),
                None => Boarding::Joined(passenger),
            };
        }
        let flight = Arc::new(Flight::new(Weak::new()));
        let replaced = by_key.insert(key.clone(), Arc::clone(&flight));
        drop(by_key);
        drop(replaced);
        let passenger = flight.board();
        let lead = Lead {
            flights: Arc::downgrade(self),
            key: key.clone(),
            flight,
        };
        Boarding::Lead(lead, passenger)
    }

    /// Takes the flight of `key` off the list: what it loads is out of date, and nobody boards it
    /// any more.
    pub(crate) fn detach(&self, key: &Key) {
        let detached = self.by_key.lock().remove(key);
        drop(detached);
    }

    /// [`Flights::detach`] for all keys.
    pub(crate) fn detach_all(&self) {
        let all = std::mem::take(&mut *self.by_key.lock());
        drop(all);
    }
}

impl<T> Flight<T> {
    fn new(unclaimed: Weak<Mutex<Option<Lead<T>>>>) -> Self {
        Self {
            state: watch::Sender::new(State::Flying),
            stage: AtomicU32::new(0),
            last_boarded: AtomicU32::new(0),
            unclaimed,
        }
    }

    fn board(&self) -> Passenger<T> {
        let state = self.state.subscribe();
        let boarded_at = self.stage.load(Ordering::SeqCst);
        self.last_boarded.fetch_max(boarded_at, Ordering::SeqCst);
        Passenger { state, boarded_at }
    }
}

impl<T> Next<T> {
    fn new(flights: Weak<Flights<T>>, key: Key) -> Self {
        let lead = Arc::new(Mutex::new(None));
        let flight = Arc::new(Flight::new(Arc::downgrade(&lead)));
        *lead.lock() = Some(Lead {
            flights,
            key,
            flight: Arc::clone(&flight),
        });
        Self { flight, lead }
    }

    /// Who came too late for the flight before counts as boarded before this one began, whenever
    /// it gets to it: it has been waiting since.
    fn board(&self) -> Boarding<T> {
        let passenger = Passenger {
            state: self.flight.state.subscribe(),
            boarded_at: 0,
        };
        match self.lead.lock().take() {
            Some(lead) => Boarding::Lead(lead, passenger),
            None => Boarding::Joined(passenger),
        }
    }
}

impl<T> Lead<T> {
    /// Begins the next stage. What is begun *after* this call is young enough for those who
    /// boarded up to the stage that it gives.
    pub(crate) fn next_stage(&self) -> u32 {
        self.flight.stage.fetch_add(1, Ordering::SeqCst)
    }

    /// Ends the flight.
    pub(crate) fn land(self, outcome: T, good_for: u32) {
        let next = self.make_room(good_for);
        self.flight.state.send_replace(State::Landed {
            outcome,
            good_for,
            next,
        });
    }

    /// Takes the flight off the list, and puts the next in its place when somebody needs one.
    fn make_room(&self, good_for: u32) -> Option<Next<T>> {
        let flights = self.flights.upgrade()?;
        let mut by_key = flights.by_key.lock();
        let is_listed = by_key
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // Under the lock: nobody boards between the look and the change.
        let is_late = self.flight.last_boarded.load(Ordering::SeqCst) > good_for;
        let next = is_late.then(|| Next::new(Weak::clone(&self.flights), self.key.clone()));
        let replaced = match (&next, is_listed) {
            (Some(next), true) => by_key.insert(self.key.clone(), Arc::clone(&next.flight)),
            (None, true) => by_key.remove(&self.key),
            (_, false) => None,
        };
        drop(by_key);
        drop(replaced);
        next
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        let Some(flights) = self.flights.upgrade() else {
            return;
        };
        let mut by_key = flights.by_key.lock();
        // After `land` or `detach` another flight may stand here.
        let is_listed = by_key
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        let removed = match is_listed {
            true => by_key.remove(&self.key),
            false => None,
        };
        drop(by_key);
        drop(removed);
        self.flight.state.send_if_modified(|state| {
            let is_lost = matches!(state, State::Flying);
            if is_lost {
                *state = State::Lost;
            }
            is_lost
        });
    }
}

impl<T: Clone> Passenger<T> {
    /// Waits for the end. Can be given up and begun again.
    pub(crate) async fn arrive(&mut self) -> Arrival<T> {
        let boarded_at = self.boarded_at;
        let ended = self
            .state
            .wait_for(|state| !matches!(state, State::Flying))
            .await;
        match ended.as_deref() {
            Ok(State::Landed {
                outcome,
                good_for,
                next,
            }) => match next {
                _ if boarded_at <= *good_for => Arrival::Outcome(outcome.clone()),
                Some(next) => Arrival::TooOld(next.board()),
                None => Arrival::Lost,
            },
            Ok(State::Flying | State::Lost) | Err(_) => Arrival::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from_raw("k")
    }

    fn lead(flights: &Arc<Flights<u8>>) -> (Lead<u8>, Passenger<u8>) {
        match flights.board(&key(), false) {
            Boarding::Lead(lead, passenger) => (lead, passenger),
            Boarding::Joined(_) => panic!("somebody leads already"),
        }
    }

    fn join(flights: &Arc<Flights<u8>>) -> Passenger<u8> {
        match flights.board(&key(), false) {
            Boarding::Joined(passenger) => passenger,
            Boarding::Lead(..) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn who_boards_after_the_reading_began_asks_again() {
        let flights = Flights::new();
        let (lead_end, mut first) = lead(&flights);
        let mut second = join(&flights);
        let good_for = lead_end.next_stage();
        let mut late = join(&flights);
        lead_end.land(1, good_for);
        assert!(matches!(first.arrive().await, Arrival::Outcome(1)));
        assert!(matches!(second.arrive().await, Arrival::Outcome(1)));
        let Arrival::TooOld(Boarding::Lead(next, mut late)) = late.arrive().await else {
            panic!("the first who was too late leads the next");
        };
        let good_for = next.next_stage();
        next.land(2, good_for);
        assert!(matches!(late.arrive().await, Arrival::Outcome(2)));
        drop(lead(&flights));
    }

    #[tokio::test]
    async fn all_who_are_too_late_share_the_next_flight() {
        let flights = Flights::new();
        let (first, _) = lead(&flights);
        let good_for = first.next_stage();
        let (mut one, mut two) = (join(&flights), join(&flights));
        first.land(1, good_for);
        let Arrival::TooOld(Boarding::Lead(next, mut one)) = one.arrive().await else {
            panic!("the first leads");
        };
        // It has begun when the other gets to it.
        let good_for = next.next_stage();
        let Arrival::TooOld(Boarding::Joined(mut two)) = two.arrive().await else {
            panic!("the second joins");
        };
        let mut new = join(&flights);
        next.land(2, good_for);
        assert!(matches!(one.arrive().await, Arrival::Outcome(2)));
        assert!(matches!(two.arrive().await, Arrival::Outcome(2)));
        assert!(matches!(new.arrive().await, Arrival::TooOld(_)));
    }

    #[tokio::test]
    async fn a_next_flight_that_nobody_wants_any_more_is_gone() {
        let flights = Flights::new();
        let (first, _) = lead(&flights);
        let good_for = first.next_stage();
        let late = join(&flights);
        first.land(1, good_for);
        // Whoever boards before anybody else has claimed it leads it.
        let (claimed, _) = lead(&flights);
        drop(claimed);
        let (again, _) = lead(&flights);
        drop((late, again));
        assert!(flights.by_key.lock().is_empty());
        let (first, _) = lead(&flights);
        let good_for = first.next_stage();
        let late = join(&flights);
        first.land(1, good_for);
        assert_eq!(flights.by_key.lock().len(), 1);
        drop(late);
        assert!(
            flights.by_key.lock().is_empty(),
            "nobody is left to claim it"
        );
    }

    #[tokio::test]
    async fn a_flight_that_is_detached_makes_room_for_another_and_does_not_remove_it() {
        let flights = Flights::new();
        let (old, mut waits) = lead(&flights);
        flights.detach(&key());
        let (new, _) = lead(&flights);
        drop(old);
        assert!(matches!(waits.arrive().await, Arrival::Lost));
        let mut other = join(&flights);
        new.land(2, ALL);
        assert!(matches!(other.arrive().await, Arrival::Outcome(2)));
    }
}
