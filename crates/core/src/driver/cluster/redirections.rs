//! [`Redirections`]: what nodes have said lately of slots that they do not serve any more.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::slots::SlotMap;
use crate::config::Address;

/// For how long a redirection is believed more than the views of the nodes. Most of them hear of a slot's move from
/// others, on a busy machine more than a second later. The node that sends callers away knows.
const BELIEVED: Duration = Duration::from_secs(2);

/// The latest redirections of each slot. There are at most as many entries as slots, and old ones are forgotten whenever
/// the nodes are asked.
#[derive(Debug, Default)]
pub(super) struct Redirections(HashMap<u16, Redirection>);

#[derive(Debug)]
struct Redirection {
    /// The node that serves the slot, by the latest redirection.
    to: Address,
    /// The nodes that have sent callers away, and when. A slot may move twice before the others have heard of it.
    from: Vec<(Address, Instant)>,
}

impl Redirections {
    /// The node at `from` said that the one at `to` serves `slot`.
    pub(super) fn note(&mut self, slot: u16, from: &Address, to: &Address) {
        let redirection = self.0.entry(slot).or_insert_with(|| Redirection {
            to: to.clone(),
            from: Vec::new(),
        });
        redirection.to.clone_from(to);
        let senders = &mut redirection.from;
        senders.retain(|(sender, _)| sender != from && sender != to);
        senders.push((from.clone(), Instant::now()));
    }

    /// Takes slots back that the view gives to a node that has just sent callers away. Any other node that the
    /// view names has taken over since.
    pub(super) fn correct(&mut self, view: &mut SlotMap) {
        self.0.retain(|slot, Redirection { to, from }| {
            from.retain(|(_, at)| at.elapsed() < BELIEVED);
            if let Some(owner) = view.owner(*slot)
                && from.iter().any(|(sender, _)| sender == owner)
            {
                view.set_owner(*slot, to);
            }
            !from.is_empty()
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
    async fn a_view_that_is_behind_does_not_give_a_slot_back_to_the_node_that_has_just_sent_callers_away()
     {
        let [a, b, c] = [1, 2, 3].map(node);
        let mut redirections = Redirections::default();
        redirections.note(7, &a, &b);
        let owner_in = |redirections: &mut Redirections, owner: &Address| {
            let mut view = view(owner);
            redirections.correct(&mut view);
            assert_eq!(view.owner(8), Some(owner), "no node said anything of it");
            view.owner(7).cloned()
        };
        // However often the nodes are asked, and also when a view that knew it was followed by one that does not.
        for seen in [&a, &b, &a] {
            assert_eq!(owner_in(&mut redirections, seen), Some(b.clone()));
            tokio::time::advance(BELIEVED / 4).await;
        }
        // A third node has taken over.
        assert_eq!(owner_in(&mut redirections, &c), Some(c.clone()));
        // The slot moves on before the others have heard of its first move.
        redirections.note(7, &b, &c);
        for seen in [&a, &b] {
            assert_eq!(owner_in(&mut redirections, seen), Some(c.clone()));
        }
        redirections.note(7, &c, &b);
        // The slot has come back to its first node.
        redirections.note(7, &b, &a);
        assert_eq!(owner_in(&mut redirections, &a), Some(a.clone()));
        assert_eq!(owner_in(&mut redirections, &b), Some(a.clone()));
        tokio::time::advance(BELIEVED).await;
        assert_eq!(owner_in(&mut redirections, &b), Some(b.clone()));
        assert!(redirections.0.is_empty());
    }
}
