//! The shop's front: some products, and every category.

use maud::{Markup, html};

use super::{count, layout, product_grid};
use crate::model::{Category, ListedProduct};

pub(crate) fn front(categories: &[Category], featured: &[ListedProduct]) -> Markup {
    let content = html! {
        h1 { "Good things for every day" }
        p.lead { "Tools, tableware, toys and more, from makers who mean it." }
        section aria-labelledby="featured" {
            h2 id="featured" { "From our shelves" }
            @if featured.is_empty() {
                p { "The shelves are empty today." }
            } @else {
                (product_grid(featured))
            }
        }
        section aria-labelledby="categories" {
            h2 id="categories" { "Categories" }
            ul.categories {
                @for category in categories {
                    li {
                        a href={ "/categories/" (category.id) } { (category.name) }
                        span.soft { (count(category.products)) }
                    }
                }
            }
        }
    };
    layout::page("Welcome", content)
}
