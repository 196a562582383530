//! A customer's orders.

use maud::{Markup, html};

use super::{ago, layout};
use crate::model::Total;
use crate::orders::{Order, State};

pub(crate) fn orders(orders: &[Order]) -> Markup {
    let content = html! {
        h1 { "Your orders" }
        @if orders.is_empty() {
            p.lead { "You have not ordered anything yet." }
        } @else {
            ul.orders {
                @for order in orders {
                    li.card {
                        h2 { a href={ "/orders/" (order.reference) } { (order.reference) } }
                        p { (state(order.state)) " · ordered " (ago(order.placed_at())) }
                        p.price { (Total(order.total_cents)) }
                    }
                }
            }
        }
    };
    layout::page("Your orders", content)
}

pub(crate) fn order(order: &Order) -> Markup {
    let content = html! {
        nav.trail aria-label="Breadcrumb" { a href="/orders" { "Your orders" } }
        h1 { "Order " code { (order.reference) } }
        p.lead { (state(order.state)) " · ordered " (ago(order.placed_at())) }
        div.scrolls tabindex="0" role="region" aria-label="What was ordered" {
            table {
                thead { tr {
                    th scope="col" { "Product" }
                    th.number scope="col" { "Units" }
                    th.number scope="col" { "Price" }
                } }
                tbody {
                    @for line in &order.lines {
                        tr {
                            th scope="row" { a href={ "/products/" (line.product) } { (line.name) } }
                            td.number { (line.units) }
                            td.number { (Total(line.cents())) }
                        }
                    }
                }
                tfoot { tr {
                    th scope="row" colspan="2" { "Together" }
                    td.number { strong { (Total(order.total_cents)) } }
                } }
            }
        }
        p { "For " (order.full_name) ", " (order.address) }
        @if order.state == State::Placed {
            form method="post" action={ "/orders/" (order.reference) "/cancel" } {
                button.quiet type="submit" { "Cancel this order" }
            }
        }
    };
    layout::page("Order", content)
}

fn state(state: State) -> Markup {
    html! {
        @match state {
            State::Placed => span.badge { "Being packed" },
            State::Shipping | State::Shipped => span.badge.good { "On its way" },
            State::Cancelled => span.badge.off { "Cancelled" },
        }
    }
}
