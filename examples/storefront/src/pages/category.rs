//! One page of the products of a category, and the way to its other pages.

use maud::{Markup, html};

use super::{count, layout, product_grid};
use crate::model::{Listing, PageNumber};

pub(crate) fn category(listing: &Listing) -> Markup {
    let category = &listing.category;
    let content = html! {
        nav.trail aria-label="Breadcrumb" { a href="/" { "Shop" } }
        h1 { (category.name) }
        p.lead {
            (count(category.products))
            @if listing.pages > 1 { ", page " (listing.page) " of " (listing.pages) }
        }
        @if listing.products.is_empty() {
            p { "There is nothing in this category today." }
        } @else {
            (product_grid(&listing.products))
        }
        @if listing.pages > 1 { (paging(listing)) }
    };
    layout::page(&category.name, content)
}

fn paging(listing: &Listing) -> Markup {
    let page = listing.page.get();
    let to = |number: u32| format!("/categories/{}?page={number}", listing.category.id);
    html! {
        nav.paging aria-label="Pages" {
            ul {
                @if page > 1 { li { a rel="prev" href=(to(page - 1)) { "Previous" } } }
                @for number in PageNumber::up_to(listing.pages) {
                    li {
                        @if number == listing.page {
                            span aria-current="page" { (number) }
                        } @else {
                            a href=(to(number.get())) aria-label={ "Page " (number) } { (number) }
                        }
                    }
                }
                @if page < listing.pages { li { a rel="next" href=(to(page + 1)) { "Next" } } }
            }
        }
    }
}
