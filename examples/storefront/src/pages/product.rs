//! The page of one product, with a form to change its price.

use maud::{Markup, html};

use super::{layout, picture, stock};
use crate::cached::CacheStatus;
use crate::model::Product;

pub(crate) fn product(product: &Product, cache: CacheStatus) -> Markup {
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
                p.soft { "Product no. " (product.id) }
                details {
                    summary { "Change the price" }
                    p.soft {
                        "The new price is written to the database, and the cached copies of this "
                        "product are invalidated."
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
    layout::page(&product.name, content, Some(cache))
}
