//! The page of the products that are looked at most.

use maud::{Markup, html};

use super::{layout, picture};
use crate::model::PopularProduct;

pub(crate) fn popular(products: &[PopularProduct]) -> Markup {
    let content = html! {
        nav.trail aria-label="Breadcrumb" { a href="/" { "Shop" } }
        h1 { "Most looked at" }
        @if products.is_empty() {
            p { "Nobody has looked at anything yet." }
        } @else {
            ol.grid {
                @for PopularProduct { product, visits } in products {
                    li.card {
                        (picture(product.id, &product.name))
                        h3 { a href={ "/products/" (product.id) } { (product.name) } }
                        p.price { (product.price_cents) }
                        p.soft { (visits) @if *visits == 1 { " visit" } @else { " visits" } }
                    }
                }
            }
        }
    };
    layout::page("Most looked at", content)
}
