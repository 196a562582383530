//! What every page has around its content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::style::STYLE;
use crate::cached::CacheStatus;

/// A whole page. `cache` is told at the foot, where a page came from the cache or went past it.
pub(super) fn page(title: &str, content: Markup, cache: Option<CacheStatus>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Storefront" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a.name href="/" { "Storefront" }
                    nav aria-label="Shop" {
                        a href="/#categories" { "All categories" }
                        " "
                        a href="/popular" { "Most looked at" }
                    }
                }
                main id="content" { (content) }
                footer {
                    p {
                        "A demonstration shop: nothing here is for sale. "
                        @if let Some(cache) = cache { "This page: " (cache.in_words()) "." }
                    }
                }
            }
        }
    }
}
