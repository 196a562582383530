//! The example shop as its visitors see it: looking around, ordering from two windows at once, news that come by
//! themselves, the last units of a product, signing out other devices, being limited. On the embedded engine and on
//! Redis, on a telephone and on a desk.

mod shop;

use std::path::{Path, PathBuf};

use redkit_testkit::{Server, ServerOptions};
use serde_json::{Value, json};

use self::shop::Shop;
use crate::Failure;
use crate::browser::Browser;
use crate::driver::Driver;

const PASSWORD: &str = "teapot-and-two-cups";

/// What the console says of answers that the scenario wants: a sold-out product, a wrong password, a limit, a stream
/// that is refused because its session was ended.
const EXPECTED: &[&str] = &["401", "409", "422", "429"];

/// A visit of a shop, and how its pages are looked at.
struct Visit<'d> {
    driver: &'d Driver,
    shop: Shop,
    backend: &'static str,
    /// Whether the telephone's pages are dark and the desk's light, or the other way about: two visits see all four.
    is_phone_dark: bool,
}

pub(crate) async fn run(update_images: bool) -> Result<(), Failure> {
    let driver = Driver::start()?;
    let server = Server::redis(ServerOptions::default()).await?;
    let embedded = Visit {
        driver: &driver,
        shop: Shop::open(None).await?,
        backend: "embedded",
        is_phone_dark: true,
    };
    let redis = Visit {
        driver: &driver,
        shop: Shop::open(Some(&server.url())).await?,
        backend: "redis",
        is_phone_dark: false,
    };
    let (on_embedded, on_redis) = tokio::join!(embedded.make(), redis.make());
    on_embedded.map_err(|error| format!("on the embedded engine: {error}"))?;
    on_redis.map_err(|error| format!("on Redis: {error}"))?;
    if update_images {
        redis.pictures().await?;
    }
    embedded.shop.end().await?;
    redis.shop.end().await
}

impl Visit<'_> {
    async fn make(&self) -> Result<(), Failure> {
        let (ann, ben) = (self.browser().await?, self.browser().await?);
        self.look_around(&ann).await?;
        self.order_from_two_windows(&ann).await?;
        self.sign_in(&ben, "ben").await?;
        self.race(&ann, &ben).await?;
        self.own_pages(&ann).await?;
        self.sign_out_others(&ann).await?;
        self.be_limited().await?;
        for page in [ann, ben] {
            page.check_console(EXPECTED).await?;
            page.close().await?;
        }
        Ok(())
    }

    async fn look_around(&self, page: &Browser<'_>) -> Result<(), Failure> {
        self.step("a stranger looks around and searches");
        page.go(&self.shop.at("/")).await?;
        page.wait_for("h1", "Good things for every day").await?;
        self.check(page, "front").await?;
        page.fill("input[name=q]", "oak board").await?;
        page.click("header button", "Search").await?;
        page.wait_for("h1", "oak board").await?;
        self.check(page, "search").await?;
        page.click("main .card a", "").await?;
        page.wait_for("main button", "Add to the basket").await?;
        page.click("details.panel summary", "This page").await?;
        page.wait_for("details.panel[open] dt", "cache").await?;
        self.check(page, "product").await?;
        page.go(&self.shop.at("/guides/cache")).await?;
        page.wait_for("article.guide", "cache").await?;
        self.check(page, "guide").await?;
        page.check_console(&[]).await
    }

    /// A basket that comes along to the sign-in; its one page is sent from two windows at the same time.
    async fn order_from_two_windows(&self, page: &Browser<'_>) -> Result<(), Failure> {
        self.step("a basket comes along to the sign-in");
        page.go(&self.shop.at("/products/17")).await?;
        let before = self.stock(page, &json!(17)).await?;
        page.click("main button", "Add to the basket").await?;
        page.wait_for("h1", "Your basket").await?;
        page.click("main a", "Sign in to order").await?;
        page.wait_for("h1", "Sign in").await?;
        self.check(page, "sign-in").await?;
        page.fill("input[name=name]", "ann").await?;
        page.fill("input[name=password]", PASSWORD).await?;
        page.click("main button", "Sign in").await?;
        page.wait_for("main button", "Order now").await?;
        self.check(page, "basket").await?;

        self.step("one page sent from two windows at once is one order, and both show it");
        let reference = page
            .run(
                "return document.querySelector('[name=reference]').value",
                &[],
            )
            .await?;
        let both = "const form = document.querySelector('form.checkout'); \
            form.target = '_blank'; form.submit(); form.target = '_self'; form.submit(); return true";
        page.run(both, &[]).await?;
        let ordered = "return location.pathname === `/orders/${arguments[0]}` && document.querySelector('h1')?.textContent.startsWith('Order')";
        let args = [reference.clone()];
        page.wait("the order in the first window", ordered, &args)
            .await?;
        page.in_the_other_window(async |other| {
            other
                .wait("the order in the second window", ordered, &args)
                .await
                .map(drop)
        })
        .await?;
        page.go(&self.shop.at("/orders")).await?;
        page.wait_for(".orders .card", "").await?;
        let count = "return document.querySelectorAll('.orders .card').length";
        let orders = page.run(count, &[]).await?;
        if orders != json!(1) {
            return Err(format!("two windows made {orders} orders").into());
        }
        let after = self.stock(page, &json!(17)).await?;
        if after != before - 1 {
            return Err(format!("of {before} units, {after} are left of an order of one").into());
        }

        self.step("a notification comes by itself");
        page.wait_for(".toast", "on its way").await?;
        page.wait_for(".bell .count", "1").await?;
        self.check(page, "orders").await
    }

    /// Both have all units of a product that is scarce in their baskets, and order at once.
    async fn race(&self, ann: &Browser<'_>, ben: &Browser<'_>) -> Result<(), Failure> {
        self.step("the last units go to one of two, and the stock is not negative");
        let scarce = "return (async () => { for (let id = 1; id <= 20; id++) { \
              const answer = await fetch(`/categories/${id}`, { headers: { accept: 'application/json' } }); \
              const found = (await answer.json()).products.find((one) => one.stock > 0 && one.stock < 5); \
              if (found) return [found.id, found.stock]; } return null; })()";
        ann.go(&self.shop.at("/")).await?;
        let found = ann.run(scarce, &[]).await?;
        let (product, stock) = (&found[0], &found[1]);
        let fill = "return fetch('/basket', { method: 'POST', \
            body: new URLSearchParams({ product: arguments[0], units: arguments[1] }) }).then((a) => a.ok)";
        for page in [ann, ben] {
            page.go(&self.shop.at("/")).await?;
            page.run(fill, &[product.clone(), stock.clone()]).await?;
            page.go(&self.shop.at("/basket")).await?;
            page.wait_for("main button", "Order now").await?;
        }
        let order = "document.querySelector('form.checkout').submit(); return true";
        let (one, other) = tokio::join!(ann.run(order, &[]), ben.run(order, &[]));
        one?;
        other?;
        let mut bought = 0;
        for page in [ann, ben] {
            let title = "return document.querySelector('form.checkout') ? null : document.querySelector('h1')?.textContent";
            let title = page.wait("the answer to the order", title, &[]).await?;
            match title.as_str().unwrap_or_default() {
                title if title.starts_with("Order") => bought += 1,
                _ => self.check(page, "sold-out").await?,
            }
        }
        if bought != 1 {
            return Err(format!(
                "{bought} of two customers have all {stock} units of product {product}"
            )
            .into());
        }
        let left = self.stock(ann, product).await?;
        if left != 0 {
            return Err(format!("{left} units of product {product} are left").into());
        }
        ann.go(&self.shop.at(&format!("/products/{product}")))
            .await?;
        ann.wait_for("main .out", "Sold out").await
    }

    async fn own_pages(&self, page: &Browser<'_>) -> Result<(), Failure> {
        self.step("news and orders have pages");
        page.go(&self.shop.at("/notifications")).await?;
        page.wait_for(".notes .card", "on its way").await?;
        self.check(page, "news").await?;
        page.go(&self.shop.at("/orders")).await?;
        page.click(".orders .card a", "").await?;
        page.wait_for("main table", "Together").await?;
        self.check(page, "order").await
    }

    /// A page that is open on another device says so when it is signed out.
    async fn sign_out_others(&self, page: &Browser<'_>) -> Result<(), Failure> {
        self.step(
            "signing out the others ends the other device's session at once, and not this one's",
        );
        let phone = self.browser().await?;
        self.sign_in(&phone, "ann").await?;
        page.go(&self.shop.at("/account")).await?;
        page.wait_for(".devices .badge", "this one").await?;
        self.check(page, "account").await?;
        page.click("main button", "Sign out all others").await?;
        phone.wait_for(".toast", "You were signed out here").await?;
        phone.go(&self.shop.at("/account")).await?;
        phone.wait_for("h1", "Sign in").await?;
        page.wait_gone("main button", "Sign out all others").await?;
        page.wait_for("header nav", "ann").await?;
        phone.check_console(EXPECTED).await?;
        phone.close().await
    }

    async fn be_limited(&self) -> Result<(), Failure> {
        self.step("five attempts to sign in, and no sixth, though its password is right");
        let stranger = self.browser().await?;
        for _ in 0..5 {
            stranger.go(&self.shop.at("/sign-in")).await?;
            self.attempt(&stranger, "olga", "not her password").await?;
            stranger.wait_for("[role=alert]", "no such name").await?;
        }
        self.attempt(&stranger, "olga", PASSWORD).await?;
        stranger
            .wait_for("main", "too many attempts to sign in")
            .await?;
        self.check(&stranger, "limited").await?;
        stranger.check_console(EXPECTED).await?;
        stranger.close().await
    }

    async fn browser(&self) -> Result<Browser<'_>, Failure> {
        let browser = Browser::open(self.driver).await?;
        browser.device(1280, 900, !self.is_phone_dark).await?;
        Ok(browser)
    }

    async fn sign_in(&self, page: &Browser<'_>, name: &str) -> Result<(), Failure> {
        page.go(&self.shop.at("/sign-in")).await?;
        self.attempt(page, name, PASSWORD).await?;
        page.wait_for("header nav", name).await
    }

    async fn attempt(&self, page: &Browser<'_>, name: &str, password: &str) -> Result<(), Failure> {
        page.fill("input[name=name]", name).await?;
        page.fill("input[name=password]", password).await?;
        page.click("main button", "Sign in").await
    }

    /// What the shop says is there of a product.
    async fn stock(&self, page: &Browser<'_>, product: &Value) -> Result<i64, Failure> {
        let script = "return fetch(`/products/${arguments[0]}`, { headers: { accept: 'application/json' } }) \
            .then((answer) => answer.json()).then((product) => product.stock)";
        let stock = page.run(script, std::slice::from_ref(product)).await?;
        stock
            .as_i64()
            .ok_or_else(|| format!("a stock of {stock}").into())
    }

    /// The page that is open, as wide as a telephone and as a desk.
    async fn check(&self, page: &Browser<'_>, name: &str) -> Result<(), Failure> {
        for (width, height) in [(390, 844), (1280, 900)] {
            let is_dark = (width == 390) == self.is_phone_dark;
            page.device(width, height, is_dark).await?;
            let theme = if is_dark { "dark" } else { "light" };
            let shot = format!("storefront-{name}-{width}-{theme}.png");
            page.screenshot(&screenshots().join(shot)).await?;
            page.check_width()
                .await
                .map_err(|error| format!("{name} at {width}: {error}"))?;
            page.check_accessibility()
                .await
                .map_err(|error| format!("{name} at {width}, {theme}: {error}"))?;
        }
        Ok(())
    }

    /// The pictures of the documentation: small, and of pages that say what they are.
    async fn pictures(&self) -> Result<(), Failure> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        let page = self.browser().await?;
        page.device(1000, 720, false).await?;
        page.go(&self.shop.at("/")).await?;
        page.wait_for("h1", "Good things").await?;
        page.screenshot(&folder.join("storefront-1000-light.png"))
            .await?;
        page.device(390, 844, true).await?;
        page.go(&self.shop.at("/products/17")).await?;
        page.click("details.panel summary", "This page").await?;
        let end =
            "document.querySelector('details.panel').scrollIntoView({ block: 'end' }); return true";
        page.run(end, &[]).await?;
        page.screenshot(&folder.join("storefront-390-dark.png"))
            .await?;
        page.close().await
    }

    fn step(&self, name: &str) {
        println!("   {}: {name}", self.backend);
    }
}

fn screenshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser")
}
