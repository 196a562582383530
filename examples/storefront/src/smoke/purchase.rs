//! A purchase from the first look to the news that the parcel is on its way, and what goes wrong on the way.

use reqwest::StatusCode;
use tokio::task::JoinSet;

use super::visitor::Visitor;
use super::{Failure, Report, ensure};
use crate::accounts::DEMO_PASSWORD;
use crate::model::Id;
use crate::shop::Shop;

/// The product that is bought.
const PRODUCT: i64 = 42;

/// How many windows send the same order at once.
const WINDOWS: usize = 8;

pub(super) async fn visit(shop: &Shop, visitor: &Visitor, report: &mut Report) {
    let ann = match sign_in(visitor).await {
        Ok((ann, seen)) => {
            report.step("sign-in", Ok(seen));
            ann
        }
        Err(failure) => return report.step("sign-in", Err(failure)),
    };
    report.step("order", order(shop, &ann).await);
    report.step("cancel", cancel(shop, &ann).await);
    report.step("sold out", sold_out(shop, &ann).await);
    report.step("announce", announce(visitor, &ann).await);
    report.step("devices", devices(visitor, &ann).await);
    report.step("guessing", guessing(visitor).await);
    report.step("register", register(visitor).await);
}

/// A stranger fills the basket and signs in; the basket comes along.
async fn sign_in(visitor: &Visitor) -> Result<(Visitor, String), Failure> {
    let away = visitor
        .page("/account")
        .await?
        .with_status(StatusCode::SEE_OTHER)?;
    ensure(
        away.location.as_deref() == Some("/sign-in?next=/account"),
        || format!("a stranger is sent to {:?}", away.location),
    )?;
    let filled = visitor
        .form("/basket", &format!("product={PRODUCT}&add=2"))
        .await?;
    let stranger = visitor.with_cookie_of(&filled.with_status(StatusCode::SEE_OTHER)?);
    let ann = credentials("ann", DEMO_PASSWORD);
    let welcome = stranger
        .form("/sign-in", &ann)
        .await?
        .with_status(StatusCode::SEE_OTHER)?;
    let ann = stranger.with_cookie_of(&welcome);
    let basket = ann.page("/basket").await?.with_status(StatusCode::OK)?;
    let basket = basket.containing("value=\"2\"")?.containing(">ann<")?;
    basket.containing("Order now")?;
    // The id of before is nobody's.
    stranger
        .page("/account")
        .await?
        .with_status(StatusCode::SEE_OTHER)?;
    let seen =
        "a basket of 2 before the sign-in, the same after it; the stranger's id opens nothing";
    Ok((ann, seen.to_owned()))
}

/// The same order from several windows at once is one, and its parcel is told of.
async fn order(shop: &Shop, ann: &Visitor) -> Result<String, Failure> {
    let id = product()?;
    let before = shop.catalogue.product(id).await?.stock;
    let page = ann.page("/basket").await?.with_status(StatusCode::OK)?;
    let reference = page
        .between("name=\"reference\" value=\"", "\"")?
        .to_owned();
    let mut windows = JoinSet::new();
    for _ in 0..WINDOWS {
        let (ann, form) = (ann.clone(), format!("reference={reference}"));
        windows.spawn(async move { ann.form("/orders", &form).await });
    }
    let (mut placed, mut in_flight) = (0, 0);
    while let Some(answer) = windows.join_next().await {
        let answer = answer.map_err(|error| Failure::Unexpected(error.to_string()))??;
        match answer.status {
            StatusCode::SEE_OTHER => placed += 1,
            StatusCode::CONFLICT => in_flight += 1,
            other => {
                return Err(Failure::Unexpected(format!(
                    "an order is answered with {other}"
                )));
            }
        }
    }
    let after = shop.catalogue.product(id).await?.stock;
    ensure(placed >= 1 && after == before - 2, || {
        format!("{placed} windows were told of the order; the stock went from {before} to {after}")
    })?;
    let path = format!("/orders/{reference}");
    let page = ann.page(&path).await?.with_status(StatusCode::OK)?;
    page.containing("Mill Lane")?.containing("Being packed")?;
    let told = format!("{reference}-placed");
    ann.stream_until("/notifications/stream", &told).await?;
    let page = ann.page(&path).await?.with_status(StatusCode::OK)?;
    page.containing("On its way")?;
    let late = ann.form(&format!("{path}/cancel"), "").await?;
    late.with_status(StatusCode::CONFLICT)?
        .containing("The order is on its way.")?;
    Ok(format!(
        "{WINDOWS} windows at once: {placed} × 303, {in_flight} × 409, stock {before} → {after}; packed, told by the \
         stream, and too late to cancel"
    ))
}

/// Cancelled before it is packed: the units are back, and the customer is told.
async fn cancel(shop: &Shop, ann: &Visitor) -> Result<String, Failure> {
    let id = product()?;
    let before = shop.catalogue.product(id).await?.stock;
    ann.form("/basket", &format!("product={PRODUCT}&add=1"))
        .await?;
    let page = ann.page("/basket").await?;
    let reference = page
        .between("name=\"reference\" value=\"", "\"")?
        .to_owned();
    let path = format!("/orders/{reference}");
    let placed = ann
        .form("/orders", &format!("reference={reference}"))
        .await?;
    placed.with_status(StatusCode::SEE_OTHER)?;
    let cancelled = ann.form(&format!("{path}/cancel"), "").await?;
    cancelled.with_status(StatusCode::SEE_OTHER)?;
    let again = ann.form(&format!("{path}/cancel"), "").await?;
    again.with_status(StatusCode::CONFLICT)?;
    let after = shop.catalogue.product(id).await?.stock;
    ensure(after == before, || {
        format!("the stock went from {before} to {after}")
    })?;
    let told = format!("{reference}-cancelled");
    ann.stream_until("/notifications/stream", &told).await?;
    ann.page(&path).await?.containing("Cancelled")?;
    Ok(format!(
        "ordered and cancelled; the stock is {after} again; the second time 409"
    ))
}

/// More than there is takes nothing, and a page that is out of date says so.
async fn sold_out(shop: &Shop, ann: &Visitor) -> Result<String, Failure> {
    let id: i64 = sqlx::query_scalar("SELECT min(id) FROM product WHERE stock = 0")
        .fetch_one(shop.catalogue.pool())
        .await
        .map_err(crate::catalogue::CatalogueError::from)?;
    ann.form("/basket", &format!("product={id}&add=1")).await?;
    let page = ann.page("/basket").await?;
    let reference = page
        .between("name=\"reference\" value=\"", "\"")?
        .to_owned();
    let form = format!("reference={reference}");
    let refused = ann
        .form("/orders", &form)
        .await?
        .with_status(StatusCode::CONFLICT)?;
    refused.containing("there are 0 left")?;
    ann.form("/basket", &format!("product={id}&units=0"))
        .await?;
    let missing = ann.page(&format!("/orders/{reference}")).await?;
    missing.with_status(StatusCode::NOT_FOUND)?;
    Ok(format!(
        "product {id}, of which there is none, is not sold; the order does not exist"
    ))
}

/// News for some and for all, of which nobody misses any.
async fn announce(visitor: &Visitor, ann: &Visitor) -> Result<String, Failure> {
    ann.page("/staff")
        .await?
        .with_status(StatusCode::FORBIDDEN)?;
    let welcome = visitor
        .form("/sign-in", &credentials("olga", DEMO_PASSWORD))
        .await?;
    let olga = visitor.with_cookie_of(&welcome.with_status(StatusCode::SEE_OTHER)?);
    olga.page("/staff").await?.with_status(StatusCode::OK)?;
    // Ann is away, and finds it later.
    let told = olga
        .form("/staff/broadcast", "text=For+Ann+alone&to=ann,nobody")
        .await?;
    told.with_status(StatusCode::OK)?
        .containing("One customer")?;
    let (came, told) = tokio::join!(
        ann.stream_until("/notifications/stream", "Closing early"),
        async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            olga.form("/staff/broadcast", "text=Closing+early&to=")
                .await
        }
    );
    let (came, _) = (came?, told?.with_status(StatusCode::OK)?);
    let times = came.matches("For Ann alone").count();
    ensure(times == 1, || format!("it came {times} times: {came}"))?;
    let page = ann
        .page("/notifications")
        .await?
        .containing("For Ann alone")?;
    let last = page.between("name=\"last\" value=\"", "\"")?.to_owned();
    ann.form("/notifications", &format!("last={last}")).await?;
    ann.page("/notifications")
        .await?
        .containing("Nothing new.")?;
    Ok(
        "one for Ann while she was away, one for all while she was connected; read, and gone"
            .into(),
    )
}

/// Signing out the others ends them everywhere, and the streams that they have open.
async fn devices(visitor: &Visitor, ann: &Visitor) -> Result<String, Failure> {
    let welcome = visitor
        .form("/sign-in", &credentials("ann", DEMO_PASSWORD))
        .await?;
    let phone = visitor.with_cookie_of(&welcome.with_status(StatusCode::SEE_OTHER)?);
    let page = ann.page("/account").await?.with_status(StatusCode::OK)?;
    let others = page.body.matches("/account/devices/revoke\"").count();
    ensure(others == 1, || format!("there are {others} other devices"))?;
    let watching = tokio::spawn(async move {
        let ended = match phone.stream_until("/notifications/stream", "never").await {
            Err(Failure::Unexpected(text)) => text.contains("ended with"),
            _ => false,
        };
        (ended, phone.page("/account").await)
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let done = ann.form("/account/devices/revoke-others", "").await?;
    done.with_status(StatusCode::SEE_OTHER)?;
    let (ended, after) = watching
        .await
        .map_err(|error| Failure::Unexpected(error.to_string()))?;
    ensure(ended, || "the other device's stream goes on".to_owned())?;
    after?.with_status(StatusCode::SEE_OTHER)?;
    ann.page("/account").await?.with_status(StatusCode::OK)?;
    Ok("a second device: its stream and its session end when the first signs it out".into())
}

async fn guessing(visitor: &Visitor) -> Result<String, Failure> {
    for _ in 0..5 {
        let wrong = visitor
            .form("/sign-in", &credentials("ben", "password"))
            .await?;
        wrong.with_status(StatusCode::UNPROCESSABLE_ENTITY)?;
    }
    let sixth = visitor
        .form("/sign-in", &credentials("ben", DEMO_PASSWORD))
        .await?;
    let sixth = sixth.with_status(StatusCode::TOO_MANY_REQUESTS)?;
    let wait = sixth.retry_after.clone().unwrap_or_default();
    ensure(
        wait.parse::<u64>()
            .is_ok_and(|wait| (1..=300).contains(&wait)),
        || format!("Retry-After is {wait:?}"),
    )?;
    Ok(format!(
        "5 wrong passwords for one name, then 429 with Retry-After: {wait}, also for the right one"
    ))
}

async fn register(visitor: &Visitor) -> Result<String, Failure> {
    let form = |name: &str| {
        format!("name={name}&password=eight+letters&full_name=N.+N.&address=1+Mill+Lane")
    };
    let made = visitor.form("/register", &form("carla")).await?;
    let carla = visitor.with_cookie_of(&made.with_status(StatusCode::SEE_OTHER)?);
    carla
        .page("/account")
        .await?
        .with_status(StatusCode::OK)?
        .containing("N. N.")?;
    let taken = visitor.form("/register", &form("ANN")).await?;
    taken
        .with_status(StatusCode::UNPROCESSABLE_ENTITY)?
        .containing("Somebody has this")?;
    visitor
        .form("/register", &form("x"))
        .await?
        .with_status(StatusCode::UNPROCESSABLE_ENTITY)?;
    visitor
        .form("/register", &form("dora"))
        .await?
        .with_status(StatusCode::TOO_MANY_REQUESTS)?;
    Ok("one account made, a name that is taken and one that is none refused; the fourth in an hour → 429".into())
}

fn credentials(name: &str, password: &str) -> String {
    format!("name={name}&password={password}")
}

fn product() -> Result<Id, Failure> {
    Id::try_from(PRODUCT).map_err(|error| Failure::Unexpected(error.to_string()))
}
