//! What the toolkit has just done for the page, for those who want to know.

use maud::{Markup, html};

use crate::context::Summary;

pub(super) fn panel(summary: &Summary) -> Markup {
    let trips = summary.round_trips;
    let millis = summary.took.as_secs_f64() * 1000.0;
    html! {
        details.panel {
            summary {
                "This page: "
                @match trips {
                    0 => "no round trip to Redis",
                    1 => "1 round trip to Redis",
                    _ => { (trips) " round trips to Redis" }
                }
                ", " (format!("{millis:.1}")) " ms"
            }
            @if summary.notes.is_empty() {
                p { "No pattern had anything to do for it." }
            } @else {
                dl {
                    @for note in &summary.notes {
                        dt { a href={ "/guides/" (note.pattern.guide()) } { (note.pattern.name()) } }
                        dd { (note.text) }
                    }
                }
            }
        }
    }
}
