//! What the shop sells: the types that the database, the cache and the pages share.
//!
//! A value that exists is a valid one: ids are positive, prices lie in the range that the shop
//! deals in. The same types are what the cache stores, so their JSON is what one finds in Redis.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number that names something in the catalogue, in its one spelling: decimal digits without a
/// sign or leading zeros. So every page has one address and every cached entry one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Id(NonZeroU32);

impl Id {
    /// The number as the database stores it.
    pub(crate) fn as_i64(self) -> i64 {
        i64::from(self.0.get())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<i64> for Id {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        u32::try_from(number)
            .ok()
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or(OutOfRange { what: "id", number })
    }
}

impl FromStr for Id {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        canonical(text).map(Self).ok_or(Malformed("an id"))
    }
}

/// The number of a page of a list, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PageNumber(NonZeroU32);

impl PageNumber {
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }

    /// Every page of a list with `pages` pages.
    pub(crate) fn up_to(pages: u32) -> impl Iterator<Item = Self> {
        (1..=pages).filter_map(NonZeroU32::new).map(Self)
    }
}

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PageNumber {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        canonical(text).map(Self).ok_or(Malformed("a page number"))
    }
}

/// An amount of money in whole cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub(crate) struct Cents(u32);

impl Cents {
    /// The highest price that the shop deals in: € 100,000.00.
    pub(crate) const MAX: u32 = 10_000_000;

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    /// As a plain decimal number, for a form field: `1234.50`.
    pub(crate) fn decimal(self) -> String {
        format!("{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl From<Cents> for u32 {
    fn from(cents: Cents) -> u32 {
        cents.0
    }
}

impl TryFrom<i64> for Cents {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        u32::try_from(number)
            .ok()
            .filter(|cents| (1..=Self::MAX).contains(cents))
            .map(Self)
            .ok_or(OutOfRange {
                what: "price in cents",
                number,
            })
    }
}

/// As people read it: `€1,234.50`.
impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Total(self.0.into()).fmt(f)
    }
}

/// A sum of prices in whole cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Total(pub(crate) u64);

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (euros, cents) = (self.0 / 100, self.0 % 100);
        let digits = euros.to_string();
        f.write_str("€")?;
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        write!(f, ".{cents:02}")
    }
}

/// From a form field: `1234.50`, `1234.5` or `1234`.
impl FromStr for Cents {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        const ERROR: Malformed = Malformed("a price from 0.01 to 100000.00");
        let text = text.trim();
        let (euros, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(euros) || !digits(fraction) || fraction.len() > 2 {
            return Err(ERROR);
        }
        let euros: i64 = euros.parse().map_err(|_| ERROR)?;
        let cents: i64 = format!("{fraction:0<2}").parse().map_err(|_| ERROR)?;
        euros
            .checked_mul(100)
            .and_then(|sum| sum.checked_add(cents))
            .and_then(|sum| Self::try_from(sum).ok())
            .ok_or(ERROR)
    }
}

/// A product with everything that its page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) price_cents: Cents,
    pub(crate) stock: u32,
    pub(crate) category: CategoryName,
}

/// A category as a product names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CategoryName {
    pub(crate) id: Id,
    pub(crate) name: String,
}

/// A category as the front page lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Category {
    pub(crate) id: Id,
    pub(crate) name: String,
    /// How many products it has.
    pub(crate) products: u32,
}

/// The shop's front: every category, and the products to show beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Front {
    pub(crate) categories: Vec<Category>,
    /// Ids only: names and prices come from the products' own entries, which are invalidated when
    /// a price changes.
    pub(crate) featured: Vec<Id>,
}

/// One page of the products of a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) category: Category,
    pub(crate) page: PageNumber,
    pub(crate) pages: u32,
    pub(crate) products: Vec<ListedProduct>,
}

/// A product as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedProduct {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) price_cents: Cents,
    pub(crate) stock: u32,
}

impl From<&Product> for ListedProduct {
    fn from(product: &Product) -> Self {
        Self {
            id: product.id,
            name: product.name.clone(),
            price_cents: product.price_cents,
            stock: product.stock,
        }
    }
}

/// A product with how often it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PopularProduct {
    #[serde(flatten)]
    pub(crate) product: ListedProduct,
    pub(crate) visits: u64,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The first of them, by name.
    pub(crate) products: Vec<ListedProduct>,
    /// How many there are.
    pub(crate) total: u32,
}

/// What a visitor searches for: a few words in small letters, in the order of the alphabet, so that the same search has
/// one key in the cache however it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search(Vec<String>);

impl Search {
    /// The words of a text: five of them at most, of 40 characters each.
    pub(crate) fn of(text: &str) -> Self {
        let words = text.split_whitespace().map(str::to_lowercase);
        let words = words.map(|word| word.chars().take(40).collect::<String>());
        let mut words: Vec<String> = words.take(5).collect();
        words.sort_unstable();
        words.dedup();
        Self(words)
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key in the cache.
    pub(crate) fn key(&self) -> String {
        self.0.join(" ")
    }
}

/// A text is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A number is outside the range that the shop deals in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{number} is not a valid {what}")]
pub(crate) struct OutOfRange {
    what: &'static str,
    number: i64,
}

/// A positive number in its one spelling.
fn canonical(text: &str) -> Option<NonZeroU32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        assert_eq!("17".parse::<Id>().unwrap().as_i64(), 17);
        for bad in [
            "",
            "0",
            "017",
            "+17",
            "-1",
            "1.0",
            " 1",
            "abc",
            "4294967296",
            "١",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
            assert!(bad.parse::<PageNumber>().is_err(), "{bad:?}");
        }
        for bad in [0, -1, 4_294_967_296] {
            assert!(Id::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prices_are_read_and_shown_exactly() {
        for (text, cents, shown) in [
            ("0.01", 1, "€0.01"),
            ("12", 1200, "€12.00"),
            ("12.3", 1230, "€12.30"),
            (" 1234.05 ", 123_405, "€1,234.05"),
            ("100000.00", 10_000_000, "€100,000.00"),
        ] {
            let price: Cents = text.parse().unwrap();
            assert_eq!((price.get(), price.to_string().as_str()), (cents, shown));
            assert_eq!(price.decimal().parse::<Cents>(), Ok(price));
        }
        let bad = [
            "",
            ".",
            "1.",
            ".5",
            "0",
            "0.00",
            "-1",
            "1,50",
            "1.234",
            "1e3",
            "100000.01",
        ];
        for bad in bad.into_iter().chain(["99999999999999999999", "€5", "NaN"]) {
            assert!(bad.parse::<Cents>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_same_search_has_one_key() {
        let key = |text| Search::of(text).key();
        assert_eq!(key("  Oak  BOARD "), "board oak");
        assert_eq!(key("board oak oak"), "board oak");
        assert!(Search::of(" ").is_empty());
        assert_eq!(Search::of("a b c d e f").words().len(), 5);
    }

    #[test]
    fn sums_are_grouped_by_thousands() {
        let shown =
            [5, 123_456, 123_456_789, 123_456_789_012].map(|cents| Total(cents).to_string());
        assert_eq!(
            shown,
            ["€0.05", "€1,234.56", "€1,234,567.89", "€1,234,567,890.12"]
        );
    }

    #[test]
    fn json_outside_the_range_is_refused() {
        assert_eq!(serde_json::to_string(&Cents(1234)).unwrap(), "1234");
        assert_eq!(serde_json::from_str::<Cents>("1234").unwrap(), Cents(1234));
        for bad in ["0", "-5", "10000001", "12.5", "\"12\"", "null"] {
            assert!(serde_json::from_str::<Cents>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Id>("0").is_err());
    }
}
