//! What every page has around its content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::panel::panel;
use super::style::STYLE;
use crate::context::{self, Summary};

/// A whole page. Who looks at it, and what was done for it, is the request's own.
pub(super) fn page(title: &str, content: Markup) -> Markup {
    let summary = context::summary();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Storefront" }
                style { (PreEscaped(STYLE)) }
                script src="/assets/shop.js" defer {}
            }
            body data-account=[summary.viewer.as_ref().map(|viewer| &viewer.name)] {
                a.skip href="#content" { "Skip to the content" }
                (header(&summary))
                main id="content" { (content) }
                // News that come by themselves are put here, and are read out.
                div.news role="status" aria-live="polite" aria-label="News" {}
                footer {
                    (panel(&summary))
                    p {
                        "A demonstration shop: nothing here is for sale. "
                        a href="/popular" { "Most looked at" } " · "
                        a href="/health/ready" { "Health" } " · "
                        a href="/metrics" { "Metrics" }
                    }
                }
            }
        }
    }
}

fn header(summary: &Summary) -> Markup {
    html! {
        header {
            a.name href="/" { "Storefront" }
            form.search role="search" action="/search" {
                input type="search" name="q" aria-label="Search the shop" placeholder="Search 1,000 things"
                    maxlength="120" required;
                button type="submit" { "Search" }
            }
            nav aria-label="Yours" {
                a href="/basket" {
                    "Basket"
                    @if summary.basket > 0 { " " span.count { (summary.basket) } }
                }
                @if let Some(viewer) = &summary.viewer {
                    a.bell href="/notifications" { "News" span.count data-unread hidden { } }
                    a href="/orders" { "Orders" }
                    @if viewer.is_staff {
                        a href="/staff" { "Staff" }
                    }
                    a href="/account" { (viewer.name) }
                } @else {
                    a href="/sign-in" { "Sign in" }
                }
            }
        }
    }
}
