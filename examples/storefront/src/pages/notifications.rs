//! What a customer is told.

use maud::{Markup, html};
use redkit::pubsub::Item;

use super::layout;
use crate::notifications::{KEPT, Notification};

pub(crate) fn notifications(waiting: &[Item<Notification>]) -> Markup {
    let content = html! {
        h1 { "Your news" }
        @if waiting.is_empty() {
            p.lead { "Nothing new." }
        } @else {
            ul.notes {
                @for item in waiting.iter().rev() {
                    li.card data-note=[item.value.as_ref().ok().map(|note| &note.id)] {
                        @match &item.value {
                            Ok(note) => {
                                p { (note.text) }
                                @if let Some(link) = &note.link { p { a href=(link) { "Look at it" } } }
                            }
                            Err(_) => p.soft { "This one cannot be read." },
                        }
                    }
                }
            }
            @if let Some(last) = waiting.last() {
                form method="post" action="/notifications" {
                    input type="hidden" name="last" value=(last.id);
                    button type="submit" { "I have read these" }
                }
            }
        }
        p.soft {
            "The last " (KEPT) " are kept until you say that you have read them. What comes while you read stays."
        }
    };
    layout::page("News", content)
}
