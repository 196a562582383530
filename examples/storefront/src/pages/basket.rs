//! The basket, with the form that orders what is in it.

use maud::{Markup, html};

use super::layout;
use crate::model::{ListedProduct, Total};
use crate::orders::{Basket, Reference};

pub(crate) fn basket(
    basket: &Basket,
    products: &[ListedProduct],
    reference: &Reference,
    is_known: bool,
) -> Markup {
    let units = |product: &ListedProduct| {
        basket
            .lines()
            .find(|(id, _)| *id == product.id)
            .map_or(0, |(_, units)| units)
    };
    let sum =
        |product: &ListedProduct| u64::from(product.price_cents.get()) * u64::from(units(product));
    let total = products.iter().map(sum).sum();
    let content = html! {
        h1 { "Your basket" }
        @if products.is_empty() {
            p.lead { "There is nothing in it yet." }
            p { a href="/" { "Look around" } }
        } @else {
            div.scrolls tabindex="0" role="region" aria-label="What is in the basket" {
                table {
                    thead { tr {
                        th scope="col" { "Product" }
                        th scope="col" { "Units" }
                        th.number scope="col" { "Price" }
                    } }
                    tbody {
                        @for product in products {
                            tr {
                                th scope="row" {
                                    a href={ "/products/" (product.id) } { (product.name) }
                                    @if product.stock < units(product) {
                                        p.out { "Only " (product.stock) " left" }
                                    }
                                }
                                td {
                                    form.units method="post" action="/basket" {
                                        input type="hidden" name="product" value=(product.id);
                                        input type="number" name="units" min="0" max="99" required
                                            value=(units(product))
                                            aria-label={ "Units of " (product.name) };
                                        button.quiet type="submit" aria-label={ "Change the units of " (product.name) } {
                                            "Change"
                                        }
                                    }
                                }
                                td.number { (Total(sum(product))) }
                            }
                        }
                    }
                    tfoot { tr {
                        th scope="row" colspan="2" { "Together" }
                        td.number { strong { (Total(total)) } }
                    } }
                }
            }
            @if is_known {
                form.checkout method="post" action="/orders" {
                    input type="hidden" name="reference" value=(reference);
                    button type="submit" { "Order now" }
                    p.soft {
                        "This page is order " code { (reference) }
                        ". However often it is sent, also from two windows, it is one order."
                    }
                }
            } @else {
                p { a.button href="/sign-in?next=/basket" { "Sign in to order" } }
                p.soft { "What is in the basket comes along." }
            }
        }
    };
    layout::page("Basket", content)
}
