//! What a search has found.

use maud::{Markup, html};

use super::{count, layout, product_grid};
use crate::model::Found;

pub(crate) fn search(wanted: &str, found: &Found) -> Markup {
    let content = html! {
        nav.trail aria-label="Breadcrumb" { a href="/" { "Shop" } }
        h1 { "“" (wanted) "”" }
        @if found.products.is_empty() {
            p.lead { "Nothing in the shop is called that." }
        } @else {
            p.lead {
                (count(found.total))
                @if found.products.len() < found.total as usize { ", the first " (found.products.len()) " of them" }
            }
            (product_grid(&found.products))
        }
    };
    layout::page("Search", content)
}
