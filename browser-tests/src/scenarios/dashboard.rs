//! The dashboard of a shop of two processes: this one, which serves the page, and a worker.

mod shop;
pub(crate) mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use redkit_testkit::{Server, ServerOptions};
use serde_json::json;
use tokio::time::sleep;

use self::shop::Shop;
use self::worker::Worker;
use crate::Failure;
use crate::browser::Browser;
use crate::driver::Driver;

/// WebDriver's codes of keys.
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";
const LEFT: &str = "\u{E012}";

pub(crate) async fn run(update_images: bool) -> Result<(), Failure> {
    let server = Server::redis(ServerOptions::default()).await?;
    let shop = Shop::open(&server.url()).await?;
    let mut worker = Worker::start(&server.url()).await?;
    let driver = Driver::start()?;
    let browser = Browser::open(&driver).await?;
    browser.device(1280, 900, false).await?;
    browser.go(&shop.url("/blank")).await?;
    browser.cookie("viewer", "ann").await?;
    browser.go(&shop.url("/admin")).await?;
    browser.check_console(&[]).await?;

    step("the page shows both processes and the verdict");
    browser.wait_for("h1", "All is well.").await?;
    browser.wait_for("#processes", "shop").await?;
    browser.wait_for("#processes", "worker").await?;
    browser.check_console(&[]).await?;

    step("numbers move under load");
    let tile = "return parseFloat(document.querySelector('[data-tile=\"Calls\"]').textContent.replaceAll(',', '')) > arguments[0]";
    let idle = browser.run(tile, &[json!(300)]).await?;
    if idle != json!(false) {
        return Err("there is load before it begins".into());
    }
    let load = shop.load();
    browser
        .wait("more than 300 calls a second", tile, &[json!(300)])
        .await?;
    browser.wait_for("#caches", "products").await?;
    browser.wait("the line of the calls", "return document.querySelector('#chart-calls .line.blue').getAttribute('d').split('L').length > 3", &[]).await?;

    step("a lock of the other process appears and goes");
    worker.tell("lock order-4711").await?;
    browser.wait_for("#locks code", "order-4711").await?;
    browser.wait_for("#locks tr", "worker").await?;
    browser.click("#locks .leading", "").await?;
    browser.wait_for("dialog .item", "order-4711").await?;
    browser.press(ESCAPE).await?;
    worker.tell("release").await?;
    browser.wait_gone("#locks code", "order-4711").await?;

    step("a dead letter is seen down to its payload, and redriven");
    shop.publish_what_fails().await?;
    browser
        .wait_for("#attention", "1 dead letter of mail/senders")
        .await?;
    browser.click("#topics .leading.bad", "1").await?;
    browser.wait_for("dialog .item", "no such address").await?;
    browser.click("dialog .item button", "Message").await?;
    browser.wait_for("dialog pre", "ann@example.org").await?;
    browser.check_accessibility().await?;
    screenshot(&browser, "dead-letter.png").await?;
    shop.mend();
    browser
        .click("dialog [data-action='topic/redrive']", "Redrive")
        .await?;
    browser.click("[data-confirm='redrive']", "Redrive").await?;
    browser.wait_for("#toasts", "published again").await?;
    browser.wait_for("dialog", "Nothing here.").await?;
    browser.press(ESCAPE).await?;
    browser.wait_gone("#attention", "dead letter").await?;
    browser
        .wait_for("#audit", "the dead letter was published again")
        .await?;
    shop.wait_until_handled().await?;

    step("an object that only the other process has is acted on by it");
    browser
        .click(
            "#topics [data-action='topic/pause'][data-object='archive/keepers']",
            "Pause",
        )
        .await?;
    browser.click("[data-confirm='pause']", "Pause").await?;
    browser.wait_for("#toasts", "the group is paused").await?;
    browser.wait_for("#attention", "is paused").await?;
    browser
        .click(
            "#topics [data-action='topic/resume'][data-object='archive/keepers']",
            "Resume",
        )
        .await?;
    browser.click("[data-confirm='resume']", "Resume").await?;
    browser.wait_gone("#attention", "is paused").await?;

    step("the charts are read by pointing and by keyboard");
    browser
        .run("document.querySelector('#chart-calls .scrub').focus()", &[])
        .await?;
    let spoken =
        "return document.querySelector('#chart-calls .scrub').getAttribute('aria-valuetext')";
    let latest = browser.run(spoken, &[]).await?;
    browser.press(LEFT).await?;
    browser.press(LEFT).await?;
    browser
        .wait(
            "another moment",
            &format!("{spoken} !== arguments[0]"),
            &[latest],
        )
        .await?;
    browser
        .wait(
            "the cursor in each chart",
            "return document.querySelectorAll('.plot .cursor').length === 2",
            &[],
        )
        .await?;

    step("by keyboard alone: to the first button, a dialog, and back");
    browser.run("document.activeElement.blur(); document.querySelector('#caches [data-action=\"cache/clear\"]').focus()", &[]).await?;
    browser.press(ENTER).await?;
    browser.wait_for("dialog h2", "Clear").await?;
    browser.press(&TAB.repeat(2)).await?;
    browser
        .wait(
            "the focus on the action",
            "return document.activeElement.dataset.confirm === 'clear'",
            &[],
        )
        .await?;
    browser.press(ENTER).await?;
    browser
        .wait_for("#toasts", "all values are removed")
        .await?;
    browser
        .wait(
            "the focus back",
            "return document.activeElement.dataset.action === 'cache/clear'",
            &[],
        )
        .await?;

    step("the key space is analyzed with progress");
    browser.click("#keyspace button", "Look at all").await?;
    browser.wait_for("#keyspace", "looked at").await?;
    browser.wait_for("#keyspace code", "shop:cache").await?;
    browser.check_console(&[]).await?;

    step("at 1280 and 390 pixels, light and dark: nothing overflows, nothing serious for axe");
    sleep(Duration::from_secs(2)).await;
    for (width, height) in [(1280, 900), (390, 844)] {
        for is_dark in [false, true] {
            browser.device(width, height, is_dark).await?;
            browser.run("scrollTo(0, 0)", &[]).await?;
            sleep(Duration::from_millis(400)).await;
            let theme = if is_dark { "dark" } else { "light" };
            screenshot(&browser, &format!("dashboard-{width}-{theme}.png")).await?;
            browser.check_width().await?;
            browser.check_accessibility().await?;
        }
    }
    whole_page(&browser).await?;

    step("a viewer without the right sees no button, and is refused when forcing it");
    browser.device(1280, 900, false).await?;
    browser.cookie("viewer", "rob").await?;
    browser.go(&shop.url("/admin")).await?;
    browser.wait_for("#topics", "mail/senders").await?;
    browser.wait_for("#session", "rob").await?;
    let buttons = browser
        .run(
            "return document.querySelectorAll('[data-action]').length",
            &[],
        )
        .await?;
    if buttons != json!(0) {
        return Err(format!("a reader is shown {buttons} buttons").into());
    }
    let forced = "return fetch('admin/api/act', { method: 'POST', headers: { 'content-type': 'application/json' }, \
        body: JSON.stringify({ kind: 'topic', name: 'mail/senders', action: 'pause' }) }).then((r) => r.status)";
    let status = browser.run(forced, &[]).await?;
    if status != json!(403) {
        return Err(format!("a forced action was answered with {status}").into());
    }
    browser.wait_for("#audit", "refused").await?;
    browser.check_console(&["403"]).await?;

    step("3,600 updates leave the page as it was");
    many_updates(&browser, &shop).await?;

    step("what is down is said");
    drop(load);
    server.stop()?;
    browser.wait_for("h1", "is down").await?;
    server.cont()?;
    browser.wait_gone("h1", "is down").await?;

    worker.end().await?;
    browser.wait_gone("#processes", "worker").await?;
    browser.close().await?;
    if update_images {
        update(&["dashboard-1280-dark.png", "dashboard-390-light.png"])?;
    }
    Ok(())
}

/// An hour of updates, in seconds: neither elements nor memory grow.
async fn many_updates(browser: &Browser<'_>, shop: &Shop) -> Result<(), Failure> {
    // The stream is held by the page's own module; one that is made before it can be reached.
    let hook = "const Own = EventSource; window.streams = []; \
        window.EventSource = class extends Own { constructor(...a) { super(...a); window.streams.push(this); } }; \
        window.EventSource.CLOSED = Own.CLOSED;";
    browser
        .devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": hook }),
        )
        .await?;
    browser.go(&shop.url("/admin")).await?;
    browser.wait_for("#topics", "mail/senders").await?;
    // The same state again and again: objects that come meanwhile are no growth of the page.
    let feed = "const [count] = arguments; const stream = window.streams.at(-1); \
        return new Promise((done) => { \
          stream.addEventListener('state', async (event) => { \
            if (window.isFed) return; window.isFed = true; \
            const state = window.fed = window.fed ?? JSON.parse(event.data); \
            for (let n = 0; n < count; n += 1) { \
              state.at += 1000; state.point.t += 1000; state.point.ops = 100 + (n % 50); state.attention = n % 7 === 0 ? [] : state.attention; \
              stream.dispatchEvent(new MessageEvent('state', { data: JSON.stringify(state) })); \
              if (n % 20 === 0) await new Promise(requestAnimationFrame); \
            } \
            window.isFed = false; done(document.querySelectorAll('*').length); \
          }, { once: true }); \
        })";
    let first = browser.run(feed, &[json!(700)]).await?;
    let before = heap(browser).await?;
    let last = browser.run(feed, &[json!(2_900)]).await?;
    let after = heap(browser).await?;
    println!("   elements {first} and {last}, heap {before} and {after} bytes");
    let (first, last) = (
        first.as_u64().unwrap_or_default(),
        last.as_u64().unwrap_or_default(),
    );
    if last > first + 40 {
        return Err(format!("{first} elements have become {last}").into());
    }
    if after > before + before / 5 + 1_000_000 {
        return Err(format!("{before} bytes have become {after}").into());
    }
    Ok(())
}

async fn heap(browser: &Browser<'_>) -> Result<u64, Failure> {
    browser
        .devtools("HeapProfiler.collectGarbage", json!({}))
        .await?;
    let usage = browser.devtools("Runtime.getHeapUsage", json!({})).await?;
    let used = usage["usedSize"]
        .as_f64()
        .ok_or("the browser does not say what its heap has")?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    Ok(used as u64)
}

fn step(name: &str) {
    println!("   {name}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

async fn screenshot(browser: &Browser<'_>, name: &str) -> Result<(), Failure> {
    browser
        .screenshot(&root().join("target/browser").join(name))
        .await
}

/// The page from top to bottom, to be looked at.
async fn whole_page(browser: &Browser<'_>) -> Result<(), Failure> {
    for (width, name) in [(1280, "whole-1280.png"), (390, "whole-390.png")] {
        browser.device(width, 900, width == 390).await?;
        let height = browser
            .run("return document.documentElement.scrollHeight", &[])
            .await?;
        let height = u32::try_from(height.as_u64().unwrap_or(900)).unwrap_or(900);
        browser
            .device(width, height.min(8_000), width == 390)
            .await?;
        screenshot(browser, name).await?;
    }
    Ok(())
}

fn update(names: &[&str]) -> Result<(), Failure> {
    let images = root().join("docs/images");
    std::fs::create_dir_all(&images)?;
    for name in names {
        std::fs::copy(root().join("target/browser").join(name), images.join(name))?;
    }
    Ok(())
}
