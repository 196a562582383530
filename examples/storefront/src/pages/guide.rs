//! A guide of the documentation, as a page of the shop.

use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{Options, Parser};

use super::layout;

/// Renders Markdown of this repository: text that nobody else writes.
pub(crate) fn guide(text: &str) -> Markup {
    let mut rendered = String::new();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    pulldown_cmark::html::push_html(&mut rendered, Parser::new_ext(text, options));
    let content = html! {
        article.guide tabindex="0" aria-label="Guide" { (PreEscaped(rendered)) }
    };
    layout::page("Guide", content)
}
