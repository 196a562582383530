//! [`Basket`]: what a visitor is going to order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Id;

/// How many different products a basket holds, and how many of each.
const MOST_LINES: usize = 50;
const MOST_UNITS: u32 = 99;

/// Products and how many of each, by number: two baskets with the same content are equal, however they were filled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Basket(BTreeMap<Id, u32>);

impl Basket {
    /// Adds units of a product. What is more than a basket holds is left out.
    pub(crate) fn add(&mut self, product: Id, units: u32) {
        if self.0.len() == MOST_LINES && !self.0.contains_key(&product) {
            return;
        }
        let held = self.0.entry(product).or_default();
        *held = held.saturating_add(units).min(MOST_UNITS);
    }

    /// Says how many units of a product there are.
    pub(crate) fn set(&mut self, product: Id, units: u32) {
        self.0.remove(&product);
        if units > 0 {
            self.add(product, units);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many units there are of all products together.
    pub(crate) fn units(&self) -> u32 {
        self.0.values().sum()
    }

    /// Products and units.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (Id, u32)> {
        self.0.iter().map(|(product, units)| (*product, *units))
    }

    /// Says what is ordered: a key that comes again with another content is a mistake.
    pub(crate) fn fingerprint(&self) -> String {
        let lines: Vec<String> = self
            .lines()
            .map(|(id, units)| format!("{id}x{units}"))
            .collect();
        lines.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basket_is_what_it_holds() {
        let id = |number: i64| Id::try_from(number).unwrap();
        let (mut one, mut other) = (Basket::default(), Basket::default());
        one.add(id(3), 1);
        one.add(id(2), 98);
        one.add(id(2), 9);
        other.set(id(2), 99);
        other.set(id(9), 9);
        other.set(id(9), 0);
        other.add(id(3), 1);
        assert_eq!(one, other);
        assert_eq!(one.fingerprint(), "2x99,3x1");
        for number in 1..=100 {
            one.add(id(number), 1);
        }
        assert_eq!(one.lines().count(), MOST_LINES);
    }
}
