//! The page that says why there is no other page.

use maud::{Markup, html};

use super::layout;

pub(crate) fn refusal(status: u16, title: &str, detail: &str) -> Markup {
    let content = html! {
        h1 { (title) }
        p.lead { (detail) }
        p { a href="/" { "Back to the shop" } }
        p.soft { "Status " (status) }
    };
    layout::page(title, content)
}
