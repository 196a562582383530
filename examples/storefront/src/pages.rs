//! The shop's pages as HTML. The `html!` macro escapes every text that is put into it, so a
//! product's name is shown as it is written and is never markup.

mod account;
mod basket;
mod category;
mod front;
mod guide;
mod layout;
mod notifications;
mod orders;
mod panel;
mod popular;
mod product;
mod refusal;
mod search;
mod sign_in;
mod staff;
mod style;

pub(crate) use account::account;
pub(crate) use basket::basket;
pub(crate) use category::category;
pub(crate) use front::front;
pub(crate) use guide::guide;
pub(crate) use notifications::notifications;
pub(crate) use orders::{order, orders};
pub(crate) use popular::popular;
pub(crate) use product::product;
pub(crate) use refusal::refusal;
pub(crate) use search::search;
pub(crate) use sign_in::{register, sign_in};
pub(crate) use staff::{staff, told};

use std::time::SystemTime;

use maud::{Markup, html};

use crate::cached::FEW;
use crate::model::{Id, ListedProduct};

/// A grid of products with their prices; what to say when there are none is the caller's.
fn product_grid(products: &[ListedProduct]) -> Markup {
    html! {
        ul.grid {
            @for product in products {
                li.card {
                    (picture(product.id, &product.name))
                    h3 { a href={ "/products/" (product.id) } { (product.name) } }
                    p.price { (product.price_cents) }
                    p.stock { (stock(product.stock)) }
                }
            }
        }
    }
}

/// Stands in for a photograph: a tile in a colour of the product's own. It says nothing that the
/// text beside it does not, so it is hidden from screen readers.
fn picture(id: Id, name: &str) -> Markup {
    let hue = id.as_i64() * 47 % 360;
    // The maker's initial would be the same on half a page; the thing's own is not.
    let initial = name
        .split(' ')
        .next_back()
        .and_then(|word| word.chars().next());
    html! {
        div.picture aria-hidden="true" style={ "--hue:" (hue) } {
            @if let Some(initial) = initial { (initial) }
        }
    }
}

/// How many there are, in words: colour alone would not reach everybody.
fn stock(stock: u32) -> Markup {
    html! {
        @match stock {
            0 => span.out { "Sold out" },
            1..=FEW => span.few { "Only " (stock) " left" },
            _ => span.many { "In stock" },
        }
    }
}

/// How long ago, in the words of people.
fn ago(time: SystemTime) -> String {
    let seconds = SystemTime::now()
        .duration_since(time)
        .map_or(0, |past| past.as_secs());
    match seconds {
        0..=59 => "just now".to_owned(),
        60..=119 => "a minute ago".to_owned(),
        120..=3599 => format!("{} minutes ago", seconds / 60),
        3600..=7199 => "an hour ago".to_owned(),
        7200..=86_399 => format!("{} hours ago", seconds / 3600),
        86_400..=172_799 => "yesterday".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// `1 product`, `2 products`.
fn count(products: u32) -> Markup {
    html! { (products) @if products == 1 { " product" } @else { " products" } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Category, CategoryName, Found, Listing, PageNumber, Product};

    const HOSTILE: &str = "<script>alert('x')</script> \"&\" {{7*7}}";

    fn id(number: i64) -> Id {
        Id::try_from(number).unwrap()
    }

    fn hostile_product() -> Product {
        Product {
            id: id(7),
            name: HOSTILE.into(),
            description: HOSTILE.into(),
            price_cents: "12.34".parse().unwrap(),
            stock: 3,
            category: CategoryName {
                id: id(2),
                name: HOSTILE.into(),
            },
        }
    }

    fn listing(page: i64, pages: u32) -> Listing {
        Listing {
            category: Category {
                id: id(2),
                name: HOSTILE.into(),
                products: pages * 24,
            },
            page: page.to_string().parse::<PageNumber>().unwrap(),
            pages,
            products: vec![ListedProduct::from(&hostile_product())],
        }
    }

    #[test]
    fn no_text_of_the_catalogue_becomes_markup() {
        let categories = vec![listing(1, 1).category];
        let products = vec![ListedProduct::from(&hostile_product())];
        for page in [
            product(&hostile_product()),
            category(&listing(1, 3)),
            front(&categories, &products),
            refusal(400, "Bad request", HOSTILE),
            search(
                HOSTILE,
                &Found {
                    products: products.clone(),
                    total: 1,
                },
            ),
        ] {
            let page = page.into_string();
            assert!(!page.contains("<script>"), "{page}");
            assert!(page.contains("&lt;script&gt;alert("), "{page}");
            assert!(!page.contains("\"&\""), "{page}");
        }
    }

    #[test]
    fn paging_links_stay_inside_the_list() {
        let links = |page, pages| {
            let page = category(&listing(page, pages)).into_string();
            let mut links = Vec::new();
            for rest in page.split("/categories/2?page=").skip(1) {
                links.push(rest.split('"').next().unwrap_or_default().to_owned());
            }
            links
        };
        // Previous, each other page, next.
        assert_eq!(links(1, 3), ["2", "3", "2"]);
        assert_eq!(links(2, 3), ["1", "1", "3", "3"]);
        assert_eq!(links(3, 3), ["2", "1", "2"]);
        assert!(links(1, 1).is_empty());
    }

    #[test]
    fn every_state_of_stock_is_said_in_words() {
        let said = [0, 1, 4, 5].map(|number| stock(number).into_string());
        assert!(said[0].contains("Sold out"), "{said:?}");
        assert!(said[1].contains("Only 1 left"), "{said:?}");
        assert!(said[2].contains("Only 4 left"), "{said:?}");
        assert!(said[3].contains("In stock"), "{said:?}");
    }
}
