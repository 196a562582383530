//! The products that a new catalogue starts with: a thousand, the same ones on every machine.
//!
//! [`assortment`] says which kinds of things the shop sells and who makes them; here every maker's
//! version of every kind gets its name, text, price and stock. What varies is drawn from the
//! product's number, not from chance, so that two seeded catalogues are equal.

mod assortment;

use sqlx::sqlite::SqliteConnection;

use assortment::{ASSORTMENT, Kind, MAKERS, Maker};

/// How many makers offer their version of each kind.
const MAKERS_PER_CATEGORY: usize = 5;

/// Writes the categories and products, in the caller's transaction.
///
/// # Errors
/// The database's failure.
pub(crate) async fn insert(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (id, department) in (1_i64..).zip(&ASSORTMENT) {
        sqlx::query("INSERT INTO category (id, name) VALUES (?, ?)")
            .bind(id)
            .bind(department.name)
            .execute(&mut *connection)
            .await?;
    }
    for product in products() {
        sqlx::query(
            "INSERT INTO product (id, category_id, name, description, price_cents, stock)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(product.id)
        .bind(product.category)
        .bind(product.name)
        .bind(product.description)
        .bind(product.price_cents)
        .bind(product.stock)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct SeedProduct {
    id: i64,
    category: i64,
    name: String,
    description: String,
    price_cents: i64,
    stock: i64,
}

fn products() -> impl Iterator<Item = SeedProduct> {
    let offers =
        (1_i64..)
            .zip(&ASSORTMENT)
            .enumerate()
            .flat_map(|(index, (category, department))| {
                let makers = MAKERS
                    .iter()
                    .cycle()
                    .skip(index * 3)
                    .take(MAKERS_PER_CATEGORY);
                department
                    .kinds
                    .iter()
                    .flat_map(move |kind| makers.clone().map(move |maker| (category, kind, maker)))
            });
    (1_i64..)
        .zip(offers)
        .map(|(id, (category, kind, maker))| product(id, category, kind, maker))
}

fn product(id: i64, category: i64, kind: &Kind, maker: &Maker) -> SeedProduct {
    let Kind(thing, typical_cents, text) = kind;
    let draw = mix(id.unsigned_abs());
    // The maker sets the level; each product then lies up to a tenth above or below it.
    let percent = maker.price_percent + small(draw, 21) - 10;
    let rough = typical_cents * percent / 100;
    let price_cents = match rough {
        ..2000 => rough / 10 * 10 + 9,
        2000..20_000 => rough / 100 * 100 + 95,
        _ => rough / 1000 * 1000 + 900,
    };
    let stock = match small(draw >> 8, 20) {
        0 => 0,
        1..=3 => 1 + small(draw >> 16, 4),
        _ => 5 + small(draw >> 16, 120),
    };
    SeedProduct {
        id,
        category,
        name: format!("{} {thing}", maker.name),
        description: format!("{text} {}", maker.text),
        price_cents,
        stock,
    }
}

/// A number below `bound`, from the low byte of `draw`.
fn small(draw: u64, bound: u8) -> i64 {
    i64::try_from((draw & 0xff) % u64::from(bound.max(1))).unwrap_or_default()
}

/// Spreads a product's number over all bits (the finaliser of SplitMix64), so that neighbours in
/// the list do not look alike.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn a_thousand_products_with_names_of_their_own() {
        let all: Vec<SeedProduct> = products().collect();
        assert_eq!(all.len(), 1000);
        let names: HashSet<&str> = all.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), 1000);
        let mut per_category = HashMap::new();
        for product in &all {
            *per_category.entry(product.category).or_insert(0) += 1;
            assert!((100..500_000).contains(&product.price_cents), "{product:?}");
            assert!((0..=125).contains(&product.stock), "{product:?}");
            assert!(product.description.len() > 60, "{product:?}");
        }
        assert_eq!(per_category.len(), 20);
        assert!(per_category.values().all(|&count| count == 50));
        // Sold-out products exist, so that every state of a product's page can be seen.
        assert!(all.iter().any(|p| p.stock == 0));
    }

    /// A catalogue that was seeded by one build is compared with those of others, so the products
    /// must not change unnoticed. A wanted change of the assortment changes this sum.
    #[test]
    fn the_products_are_the_same_everywhere() {
        let mut sum = 0_u64;
        for product in products() {
            for byte in format!("{product:?}").bytes() {
                sum = mix(sum ^ u64::from(byte));
            }
        }
        assert_eq!(format!("{sum:016x}"), "fe4eaabb9b2b78c1");
    }
}
