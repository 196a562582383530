//! The page of one product, with a form to change its price.

use maud::{Markup, html};

use super::{layout, picture, stock};
use crate::model::Product;

pub(crate) fn product(product: &Product) -> Markup {
    let content = html! {
        nav.trail aria-label="Breadcrumb" {
            a href="/" { "Shop" } " / "
            a href={ "/categories/" (product.category.id) } { (product.category.name) }
        }
        article.product {
            (picture(product.id, &product.name))
            div {
                h1 { (product.name) }
                p.price { (product.price_cents) }
                p.stock { (stock(product.stock)) }
                p { (product.description) }
                @if product.stock > 0 {
                    form.buy method="post" action="/basket" {
                        input type="hidden" name="product" value=(product.id);
                        label {
                            "Units"
                            input type="number" name="add" value="1" min="1" max=(product.stock.min(99)) required;
                        }
                        button type="submit" { "Add to the basket" }
                    }
                }
                p.soft { "Product no. " (product.id) }
                details {
                    summary { "Change the price" }
                    p.soft {
                        "The new price is written to the database, and what the cache has of this product, of the "
                        "lists of its category and of searches that found it is invalidated, in all processes."
                    }
                    form method="post" action={ "/products/" (product.id) "/price" } {
                        label {
                            "Price in euros"
                            input name="price" inputmode="decimal" required autocomplete="off"
                                value=(product.price_cents.decimal());
                        }
                        button type="submit" { "Save" }
                    }
                }
            }
        }
    };
    layout::page(&product.name, content)
}
