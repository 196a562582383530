//! What those who work here see and do.

use maud::{Markup, html};
use redkit::monitor::alerts::Alert;
use redkit::monitor::{Report, Status};

use super::layout;
use crate::jobs::Progress;

pub(crate) fn staff(ready: &Report, progress: Option<&Progress>, firing: &[Alert]) -> Markup {
    let content = html! {
        h1 { "Behind the counter" }
        div.columns {
            section aria-labelledby="state" {
                h2 id="state" { "How the shop is" }
                p {
                    @match ready.status {
                        Status::Pass => span.badge.good { "All is well" },
                        Status::Warn => span.badge { "It sells, and something is wrong" },
                        _ => span.badge.off { "It cannot sell" },
                    }
                }
                h3 { "Alerts" }
                @if firing.is_empty() {
                    p.soft { "None fires in this process." }
                } @else {
                    ul { @for alert in firing { li { (alert) } } }
                }
                p { a href="/admin" { "Dashboard of the fleet" } }
                p { a href="/health/deep" { "Deep check" } " · " a href="/metrics" { "Metrics" } }
            }
            section aria-labelledby="warming" {
                h2 id="warming" { "Warming of the cache" }
                @match progress {
                    None => p.soft { "There was none for an hour." },
                    Some(progress) => {
                        p { "Asked for " (progress.reason) "." }
                        progress max=(progress.total.max(1)) value=(progress.done) aria-label="Warmed" {}
                        p.soft {
                            (progress.done) " of " (progress.total)
                            @if let Some(outcome) = &progress.outcome { ": " (outcome) }
                        }
                    }
                }
                form method="post" action="/staff/warm" { button.quiet type="submit" { "Warm it now" } }
            }
        }
        section aria-labelledby="announce" {
            h2 id="announce" { "Tell customers something" }
            form.stacked method="post" action="/staff/broadcast" {
                label { "What" input name="text" required maxlength="300"; }
                label {
                    "Whom: user names with commas, or nothing for everybody"
                    input name="to" maxlength="300" autocapitalize="none";
                }
                button type="submit" { "Tell them" }
            }
        }
    };
    layout::page("Staff", content)
}

pub(crate) fn told(accounts: usize) -> Markup {
    let content = html! {
        nav.trail aria-label="Breadcrumb" { a href="/staff" { "Behind the counter" } }
        h1 { "Told" }
        p.lead {
            @match accounts {
                0 => "Nobody: no account has one of these names.",
                1 => "One customer has it, now or at the next visit.",
                _ => { (accounts) " customers have it, now or at their next visit." }
            }
        }
    };
    layout::page("Told", content)
}
