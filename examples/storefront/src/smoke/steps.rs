//! The steps of the visit, in the order in which they are taken.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::visitor::Visitor;
use super::{Failure, Report, ensure, entries, purchase};
use crate::model::{Cents, Found, Id, Listing, PopularProduct, Product};
use crate::shop::Shop;

const HIT: &str = "redkit; hit";
const MISS: &str = "redkit; fwd=miss";
const SHARED: &str = "redkit; fwd=miss; collapsed";

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// How many visitors ask for one product at once.
const CROWD: usize = 64;

/// How long the first of them waits for the database: time enough for the others to arrive.
const CROWD_GATHERS: Duration = Duration::from_millis(300);

pub(super) async fn visit(shop: &Shop, visitor: Visitor, report: &mut Report) {
    report.step("liveness", liveness(&visitor).await);
    report.step("front", front(&visitor).await);
    report.step("product", product(shop, &visitor).await);
    report.step("json", json(shop, &visitor).await);
    report.step("crowd", crowd(shop, &visitor).await);
    report.step("paging", paging(&visitor).await);
    report.step("price", price_as_json(shop, &visitor).await);
    report.step("price form", price_as_form(shop, &visitor).await);
    report.step("bad price", bad_price(shop, &visitor).await);
    report.step("not found", not_found(&visitor).await);
    report.step("bad request", bad_request(&visitor).await);
    report.step("popular", popular(&visitor).await);
    report.step("search", search(&visitor).await);
    report.step("limit", limit(&visitor).await);
    purchase::visit(shop, &visitor, report).await;
    report.step("warming", warming(shop).await);
    entries::show(&shop.connection.client, shop.catalogue.identity(), report).await;
}

/// After the stop nothing listens any more.
pub(super) async fn stopped(address: SocketAddr) -> Result<String, Failure> {
    match tokio::net::TcpStream::connect(address).await {
        Ok(_) => Err(Failure::Unexpected(format!(
            "{address} still takes connections"
        ))),
        Err(_) => Ok("the server ended in order; its port is closed".to_owned()),
    }
}

async fn liveness(visitor: &Visitor) -> Result<String, Failure> {
    let answer = visitor
        .page("/healthz")
        .await?
        .with_status(StatusCode::OK)?;
    Ok(format!("GET /healthz → 200 {}", answer.body))
}

async fn front(visitor: &Visitor) -> Result<String, Failure> {
    let first = visitor
        .page("/")
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(MISS)?;
    let again = visitor
        .page("/")
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(HIT)?;
    let categories = again.body.matches("\"/categories/").count();
    let products = again.body.matches("\"/products/").count();
    ensure(categories == 20 && products == 12, || {
        format!("the front links to {categories} categories and {products} products")
    })?;
    ensure(first.kind.starts_with("text/html"), || {
        format!("GET / is {}", first.kind)
    })?;
    Ok(format!(
        "GET / → 200, {categories} categories, {products} products; \"{MISS}\", then \"{HIT}\""
    ))
}

async fn product(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let path = "/products/17";
    let before = shop.catalogue.reads();
    let first = visitor
        .page(path)
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(MISS)?;
    let after_miss = shop.catalogue.reads() - before;
    visitor
        .page(path)
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(HIT)?;
    let after_hit = shop.catalogue.reads() - before;
    ensure((after_miss, after_hit) == (1, 1), || {
        format!("the database was read {after_miss} times for the first, {after_hit} in all")
    })?;
    let stored = shop.catalogue.product(id(17)?).await?;
    let first = first.containing(&stored.price_cents.to_string())?;
    // The maker's name is escaped, where it needs to be, as the page's text is.
    first.containing(&stored.name.replace('&', "&amp;"))?;
    let Product {
        name, price_cents, ..
    } = stored;
    Ok(format!(
        "GET {path} → 200 \"{name}\" {price_cents}; miss, then hit; 1 database read"
    ))
}

async fn json(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let answer = visitor
        .json("/products/17")
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(HIT)?;
    ensure(answer.kind == JSON, || {
        format!("the type is {}", answer.kind)
    })?;
    let (got, stored) = (
        answer.value::<Product>()?,
        shop.catalogue.product(id(17)?).await?,
    );
    ensure(got == stored, || {
        format!("the cache has {got:?}, the database {stored:?}")
    })?;
    Ok("GET /products/17 (Accept: application/json) → the product as the database has it".into())
}

async fn crowd(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let path = "/products/500";
    let before = shop.catalogue.reads();
    // The first read has to wait, so that all the others arrive while it is under way.
    let hold = shop.catalogue.hold().await?;
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let visitor = visitor.clone();
        crowd.spawn(async move { visitor.page(path).await?.with_status(StatusCode::OK) });
    }
    tokio::time::sleep(CROWD_GATHERS).await;
    hold.release().await?;
    let mut seen = BTreeMap::new();
    while let Some(answer) = crowd.join_next().await {
        let answer = answer.map_err(|error| Failure::Unexpected(error.to_string()))??;
        *seen.entry(answer.cache.unwrap_or_default()).or_insert(0) += 1;
    }
    let reads = shop.catalogue.reads() - before;
    ensure(reads == 1, || {
        format!("{CROWD} visitors made {reads} database reads: {seen:?}")
    })?;
    let misses = seen.get(MISS).copied().unwrap_or_default();
    ensure(misses == 1, || {
        format!("1 database read, but {misses} misses: {seen:?}")
    })?;
    ensure(seen.contains_key(SHARED), || {
        format!("nobody waited for another's read: {seen:?}")
    })?;
    let seen: Vec<String> = seen
        .iter()
        .map(|(status, n)| format!("{n} × \"{status}\""))
        .collect();
    let seen = seen.join(", ");
    Ok(format!(
        "{CROWD} × GET {path} at once → all 200, 1 database read; {seen}"
    ))
}

async fn paging(visitor: &Visitor) -> Result<String, Failure> {
    let mut path = "/categories/3".to_owned();
    let mut products = Vec::new();
    let mut pages = Vec::new();
    loop {
        let data: Listing = visitor
            .json(&path)
            .await?
            .with_status(StatusCode::OK)?
            .value()?;
        let page = visitor
            .page(&path)
            .await?
            .with_status(StatusCode::OK)?
            .with_cache(HIT)?;
        pages.push(data.products.len());
        products.extend(data.products.into_iter().map(|product| product.id));
        ensure(pages.len() <= 10, || {
            "the links to the next page do not end".into()
        })?;
        match page.body.split_once("rel=\"next\" href=\"") {
            Some((_, rest)) => path = rest.split('"').next().unwrap_or_default().to_owned(),
            None => break,
        }
    }
    products.sort_unstable();
    products.dedup();
    ensure(pages == [24, 24, 2] && products.len() == 50, || {
        format!(
            "the pages have {pages:?} products, {} different ones",
            products.len()
        )
    })?;
    Ok(format!(
        "following \"Next\" from /categories/3 → pages of {pages:?}, each product once"
    ))
}

async fn price_as_json(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let path = "/products/17";
    let product: Product = visitor.json(path).await?.with_cache(HIT)?.value()?;
    let list = format!("/categories/{}?page=1", product.category.id);
    // Both the product's page and its category's are in the cache with the old price.
    visitor.json(&list).await?.with_status(StatusCode::OK)?;
    visitor.json(&list).await?.with_cache(HIT)?;
    let (old, new) = (product.price_cents, raised(product.price_cents)?);
    let body = format!("{{\"price_cents\":{}}}", new.get());
    visitor
        .post(&format!("{path}/price"), JSON, body)
        .await?
        .with_status(StatusCode::OK)?;
    let stored = shop.catalogue.product(product.id).await?.price_cents;
    ensure(stored == new, || format!("the database has {stored}"))?;
    let shown: Product = visitor.json(path).await?.with_cache(MISS)?.value()?;
    ensure(shown.price_cents == new, || {
        format!("the page shows {}", shown.price_cents)
    })?;
    let relisted: Listing = visitor.json(&list).await?.with_cache(MISS)?.value()?;
    let in_list = relisted
        .products
        .iter()
        .find(|listed| listed.id == product.id);
    let in_list = in_list.map(|listed| listed.price_cents);
    ensure(in_list == Some(new), || {
        format!("{list} shows the price {in_list:?}")
    })?;
    visitor
        .page(path)
        .await?
        .with_cache(HIT)?
        .containing(&new.to_string())?;
    Ok(format!(
        "POST {path}/price {old} → {new}; next read is a miss with {new}, then a hit"
    ))
}

async fn price_as_form(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let path = "/products/18";
    let old = shop.catalogue.product(id(18)?).await?.price_cents;
    let new = raised(old)?;
    visitor
        .page(path)
        .await?
        .with_status(StatusCode::OK)?
        .containing(&old.to_string())?;
    let body = format!("price={}", new.decimal());
    let answer = visitor.post(&format!("{path}/price"), FORM, body).await?;
    let answer = answer.with_status(StatusCode::SEE_OTHER)?;
    ensure(answer.location.as_deref() == Some(path), || {
        format!("to {:?}", answer.location)
    })?;
    visitor
        .page(path)
        .await?
        .with_cache(MISS)?
        .containing(&new.to_string())?;
    Ok(format!(
        "POST {path}/price as a form → 303 to {path}, which shows {new} and not {old}"
    ))
}

async fn bad_price(shop: &Shop, visitor: &Visitor) -> Result<String, Failure> {
    let before = shop.catalogue.product(id(19)?).await?;
    let cases = [
        (FORM, "price=free", StatusCode::BAD_REQUEST),
        (FORM, "price=-1", StatusCode::BAD_REQUEST),
        (FORM, "cost=1", StatusCode::UNPROCESSABLE_ENTITY),
        (
            JSON,
            "{\"price_cents\":0}",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (JSON, "{\"price_cents\":", StatusCode::BAD_REQUEST),
        ("text/plain", "12.50", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ];
    for (kind, body, status) in cases {
        visitor
            .post("/products/19/price", kind, body)
            .await?
            .with_status(status)?;
    }
    let long = "9".repeat(100_000);
    let answer = visitor
        .post("/products/19/price", FORM, format!("price={long}"))
        .await?;
    answer.with_status(StatusCode::PAYLOAD_TOO_LARGE)?;
    let foreign = visitor.send(Method::POST, "/products/19/price", |request| {
        request
            .header("sec-fetch-site", "cross-site")
            .header("content-type", FORM)
            .body("price=1")
    });
    foreign.await?.with_status(StatusCode::FORBIDDEN)?;
    let after = shop.catalogue.product(id(19)?).await?;
    ensure(before == after, || {
        format!("the price became {}", after.price_cents)
    })?;
    Ok(format!(
        "{} malformed, oversized or foreign changes refused, nothing written",
        cases.len() + 2
    ))
}

async fn not_found(visitor: &Visitor) -> Result<String, Failure> {
    let paths = [
        "/products/1001",
        "/products/4294967295",
        "/categories/21",
        "/categories/3?page=4",
        "/x",
    ];
    for path in paths {
        let page = visitor
            .page(path)
            .await?
            .with_status(StatusCode::NOT_FOUND)?;
        page.containing("<h1>Not Found</h1>")?;
        let problem = visitor
            .json(path)
            .await?
            .with_status(StatusCode::NOT_FOUND)?;
        ensure(problem.kind == "application/problem+json", || {
            format!("a {}", problem.kind)
        })?;
    }
    Ok(format!("{} → 404, as a page and as JSON", paths.join(", ")))
}

async fn bad_request(visitor: &Visitor) -> Result<String, Failure> {
    let paths = [
        "/products/abc",
        "/products/0",
        "/products/017",
        "/products/-1",
        "/products/99999999999999999999",
        "/products/%ff",
        "/products/%3Cscript%3E",
        "/categories/x",
        "/categories/3?page=0",
        "/categories/3?page=two",
        "/categories/3?page=1&page=2",
    ];
    for path in paths {
        let answer = visitor
            .page(path)
            .await?
            .with_status(StatusCode::BAD_REQUEST)?;
        ensure(!answer.body.contains("<script>"), || {
            format!("{path} came back as markup")
        })?;
    }
    let answer = visitor
        .send(Method::DELETE, "/products/17", |request| request)
        .await?;
    answer.with_status(StatusCode::METHOD_NOT_ALLOWED)?;
    Ok(format!(
        "{} malformed addresses → 400 with a reason; DELETE → 405",
        paths.len()
    ))
}

async fn popular(visitor: &Visitor) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Body {
        products: Vec<PopularProduct>,
    }
    let counts = |body: &Body| {
        let products = body.products.iter();
        products
            .map(|one| (one.product.id, one.visits))
            .collect::<BTreeMap<_, _>>()
    };
    let answer = visitor.json("/popular").await?;
    let before = counts(&answer.with_status(StatusCode::OK)?.value()?);
    visitor.page("/products/500").await?;
    // What is not in the shop is not counted.
    visitor.page("/products/1001").await?;
    let body: Body = visitor.json("/popular").await?.value()?;
    let after = counts(&body);
    let (crowd, others) = (id(500)?, id(17)?);
    let visits = after.get(&crowd).copied().unwrap_or_default();
    ensure(before.get(&crowd) == Some(&(visits - 1)), || {
        format!("a visit more took the count from {before:?} to {after:?}")
    })?;
    // The crowd's visits all counted, each once.
    ensure(visits == CROWD as u64 + 1, || {
        format!("product {crowd} has {visits} visits")
    })?;
    ensure(after.len() < 12 && after.contains_key(&others), || {
        format!("the visited products are {after:?}")
    })?;
    let first = body.products.first().map(|one| one.product.id);
    ensure(first == Some(crowd), || format!("{first:?} comes first"))?;
    visitor
        .page("/popular")
        .await?
        .with_status(StatusCode::OK)?
        .containing(&format!("{visits} visits"))?;
    Ok(format!(
        "GET /popular → {} products, first no. {crowd} with {visits} visits: each was counted once",
        after.len()
    ))
}

async fn search(visitor: &Visitor) -> Result<String, Failure> {
    let path = "/search?q=Chef%27s+KNIFE";
    let first = visitor
        .json(path)
        .await?
        .with_status(StatusCode::OK)?
        .with_cache(MISS)?;
    // The same words in another order are the same search.
    let again = visitor
        .page("/search?q=knife++chef%27s")
        .await?
        .with_cache(HIT)?;
    let found: Found = first.value()?;
    let one = found
        .products
        .first()
        .map(|product| (product.id, product.price_cents));
    let (id, price) = one.ok_or_else(|| Failure::Unexpected("nothing is found".to_owned()))?;
    again.containing(&format!("/products/{id}"))?;
    let body = format!("{{\"price_cents\":{}}}", raised(price)?.get());
    let change = visitor
        .post(&format!("/products/{id}/price"), JSON, body)
        .await?;
    change.with_status(StatusCode::OK)?;
    // By the category's tag, whatever was searched for.
    let after: Found = visitor.json(path).await?.with_cache(MISS)?.value()?;
    let shown = after.products.first().map(|product| product.price_cents);
    ensure(shown == Some(raised(price)?), || {
        format!("the search shows {shown:?}")
    })?;
    Ok(format!(
        "GET {path} → {} products; miss, then hit; a new price of one of them, then miss",
        found.total
    ))
}

/// The cache is filled ahead, by one process of the fleet.
async fn warming(shop: &Shop) -> Result<String, Failure> {
    shop.jobs()
        .ask_for_warming("smoke", "for the visit")
        .await?;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Some(progress) = shop.jobs().progress().await else {
            continue;
        };
        if let Some(outcome) = progress.outcome {
            ensure(
                progress.done == progress.total && progress.total > 20,
                || format!("{} of {} are done", progress.done, progress.total),
            )?;
            return Ok(format!(
                "{} of {}: {outcome}",
                progress.done, progress.total
            ));
        }
    }
}

async fn limit(visitor: &Visitor) -> Result<String, Failure> {
    const MOST: usize = 100;
    let mut allowed = 0;
    let refused = loop {
        // An address in a header is the visitor's own word.
        let change = visitor.send(Method::POST, "/products/20/price", |request| {
            request
                .header("x-forwarded-for", format!("192.0.2.{allowed}"))
                .header("content-type", JSON)
                .header("accept", JSON)
                .body("{\"price_cents\":2000}")
        });
        let answer = change.await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        answer.with_status(StatusCode::OK)?;
        allowed += 1;
        ensure(allowed < MOST, || {
            format!("{allowed} changes in a row were not too many")
        })?;
    };
    ensure(refused.kind == "application/problem+json", || {
        format!("the refusal is {}", refused.kind)
    })?;
    let wait: Option<u64> = refused.retry_after.as_ref().and_then(|s| s.parse().ok());
    ensure(wait.is_some_and(|seconds| seconds >= 1), || {
        format!("Retry-After is {:?}", refused.retry_after)
    })?;
    // Reading is not limited.
    visitor
        .page("/products/20")
        .await?
        .with_status(StatusCode::OK)?;
    Ok(format!(
        "{allowed} more changes, then 429 with Retry-After: {}; reading goes on",
        refused.retry_after.unwrap_or_default()
    ))
}

/// A price that is higher, and still one that the shop deals in.
fn raised(price: Cents) -> Result<Cents, Failure> {
    Cents::try_from(i64::from(price.get()) + 123)
        .map_err(|error| Failure::Unexpected(error.to_string()))
}

fn id(number: i64) -> Result<Id, Failure> {
    Id::try_from(number).map_err(|error| Failure::Unexpected(error.to_string()))
}
