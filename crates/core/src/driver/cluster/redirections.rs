//! [`Redirections`]: what nodes have said lately of slots that they do not serve any more.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::slots::SlotMap;
use crate::config::Address;

/// For how long a redirection is believed more than the views of the nodes. Most of them hear of a slot's move from
/// others, on a busy machine more than a second later. The node that sends callers away knows.
const BELIEVED: Duration = Duration::from_secs(2);

/// The latest redirection of each slot. There are at most as many as slots, and old ones are forgotten whenever the
/// nodes are asked.
#[derive(Debug, Default)]
pub(super) struct Redirections(HashMap<u16, Redirection>);

#[derive(Debug)]
struct Redirection {
    from: Address,
    to: Address,
    at: Instant,
}

impl Redirections {
    /// The node at `from` said that the one at `to` serves `slot`.
    pub(super) fn note(&mut self, slot: u16, from: &Address, to: &Address) {
        let (from, to, at) = (from.clone(), to.clone(), Instant::now());
        self.0.insert(slot, Redirection { from, to, at });
    }

    /// Takes slots back that the view gives to the very node that has just sent callers away. Whoever else the
    /// view names has taken over since.
    pub(super) fn correct(&mut self, view: &mut SlotMap) {
        self.0.retain(|slot, redirection| {
            let is_believed = redirection.at.elapsed() < BELIEVED;
            if is_believed && view.owner(*slot) == Some(&redirection.from) {
                view.set_owner(*slot, &redirection.to);
            }
            is_believed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Address {
        Address {
            host: "localhost".to_owned(),
            port,
        }
    }

    fn view(owner: &Address) -> SlotMap {
        let mut view = SlotMap::empty();
        view.set_owner(7, owner);
        view.set_owner(8, owner);
        view
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_is_behind_does_not_give_a_slot_back_to_who_has_just_sent_callers_away() {
        let [a, b, c] = [1, 2, 3].map(node);
        let mut redirections = Redirections::default();
        redirections.note(7, &a, &b);
        let owner_in = |redirections: &mut Redirections, owner: &Address| {
            let mut view = view(owner);
            redirections.correct(&mut view);
            assert_eq!(view.owner(8), Some(owner), "of this nobody said anything");
            view.owner(7).cloned()
        };
        // However often it is looked at, and also when one that knew it was followed by one that does not.
        for seen in [&a, &b, &a] {
            assert_eq!(owner_in(&mut redirections, seen), Some(b.clone()));
            tokio::time::advance(BELIEVED / 4).await;
        }
        // Another has taken over.
        assert_eq!(owner_in(&mut redirections, &c), Some(c.clone()));
        // It has come back.
        redirections.note(7, &b, &a);
        assert_eq!(owner_in(&mut redirections, &a), Some(a.clone()));
        assert_eq!(owner_in(&mut redirections, &b), Some(a.clone()));
        tokio::time::advance(BELIEVED).await;
        assert_eq!(owner_in(&mut redirections, &b), Some(b.clone()));
        assert!(redirections.0.is_empty());
    }
}
