//! Signing in and out, registering, and a customer's own page: name and address, and the devices.

use axum::extract::{Extension, Query, State};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use redkit::session::tower::CurrentSession;
use redkit::session::{SessionHandle, SignIn};
use serde::Deserialize;

use super::Parts;
use super::input::Fields;
use super::visitor::{Address, Customer, NAME, STAFF};
use crate::accounts::{Account, AccountError, Profile};
use crate::context::{self, Pattern};
use crate::limits::Endpoint;
use crate::pages;
use crate::refusal::{Refusal, Rendered};

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Registration {
    name: String,
    password: String,
    full_name: String,
    address: String,
}

#[derive(Deserialize)]
pub(super) struct Device {
    handle: String,
}

#[derive(Deserialize)]
pub(super) struct Personal {
    full_name: String,
    address: String,
}

pub(super) async fn sign_in_page(Query(Next { next }): Query<Next>) -> Response {
    pages::sign_in(&next, None).into_response()
}

pub(super) async fn sign_in(
    State(parts): State<Parts>,
    session: CurrentSession,
    Extension(Address(address)): Extension<Address>,
    headers: HeaderMap,
    Fields(entered): Fields<Credentials>,
) -> Result<Response, Refusal> {
    // Also with the right password: an attempt that is denied says nothing about it.
    let user = entered.name.trim().to_lowercase();
    let user = user.get(..64).unwrap_or(&user);
    parts
        .limits
        .check(
            Endpoint::SignIn,
            Some(user).filter(|user| !user.is_empty()),
            &address,
        )
        .await?;
    let found = parts
        .accounts
        .verify(&entered.name, &entered.password)
        .await?;
    let Some(account) = found else {
        let page = pages::sign_in(
            &entered.next,
            Some("There is no such name with this password."),
        );
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, Extension(Rendered), page).into_response());
    };
    begin(&session, &account, &headers).await?;
    Ok(Redirect::to(own_page(&entered.next)).into_response())
}

pub(super) async fn register_page() -> Response {
    pages::register(None).into_response()
}

pub(super) async fn register(
    State(parts): State<Parts>,
    session: CurrentSession,
    Extension(Address(address)): Extension<Address>,
    headers: HeaderMap,
    Fields(entered): Fields<Registration>,
) -> Result<Response, Refusal> {
    parts
        .limits
        .check(Endpoint::Register, None, &address)
        .await?;
    let profile = Profile {
        full_name: entered.full_name,
        address: entered.address,
    };
    let made = parts
        .accounts
        .register(&entered.name, &entered.password, &profile)
        .await;
    let problem = match made {
        Ok(account) => {
            begin(&session, &account, &headers).await?;
            return Ok(Redirect::to("/account").into_response());
        }
        Err(AccountError::Invalid(problem)) => problem,
        Err(AccountError::Taken) => "Somebody has this user name.",
        Err(error) => return Err(error.into()),
    };
    let page = pages::register(Some(problem));
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Extension(Rendered), page).into_response())
}

pub(super) async fn sign_out(session: CurrentSession) -> Result<Redirect, Refusal> {
    session.sign_out().await?;
    Ok(Redirect::to("/"))
}

pub(super) async fn page(
    State(parts): State<Parts>,
    customer: Customer,
) -> Result<Response, Refusal> {
    let profile = parts.accounts.profile(customer.account).await?;
    let devices = customer.session.devices().await?;
    context::note(Pattern::Session, "your devices, in one round trip");
    let own = customer.session.handle().await?;
    Ok(pages::account(&profile.value, &devices, &own).into_response())
}

pub(super) async fn set_profile(
    State(parts): State<Parts>,
    customer: Customer,
    Fields(entered): Fields<Personal>,
) -> Result<Redirect, Refusal> {
    let profile = Profile {
        full_name: entered.full_name,
        address: entered.address,
    };
    parts
        .accounts
        .set_profile(customer.account, profile)
        .await?;
    Ok(Redirect::to("/account"))
}

pub(super) async fn revoke(
    customer: Customer,
    Fields(device): Fields<Device>,
) -> Result<Redirect, Refusal> {
    let handle = SessionHandle::from_text(&device.handle);
    customer.session.revoke(&handle).await?;
    Ok(Redirect::to("/account"))
}

pub(super) async fn revoke_others(customer: Customer) -> Result<Redirect, Refusal> {
    customer.session.revoke_others().await?;
    Ok(Redirect::to("/account"))
}

/// Gives the session to the account, under a new id. What a visitor has put into the basket goes with it.
async fn begin(
    session: &CurrentSession,
    account: &Account,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let device = device(agent.unwrap_or_default());
    session
        .sign_in(SignIn::new(account.id.to_string()).device(&device))
        .await?;
    session.insert(NAME, &account.name).await?;
    session.insert(STAFF, &account.is_staff).await?;
    Ok(())
}

/// A page of this shop; the front for anything else.
fn own_page(next: &str) -> &str {
    let is_own = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own && is_plain { next } else { "/" }
}

/// What a person would call a device, from what its browser says.
fn device(agent: &str) -> String {
    let named = |names: &[(&'static str, &'static str)]| {
        names
            .iter()
            .find(|(mark, _)| agent.contains(mark))
            .map(|(_, name)| *name)
    };
    let browser = named(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = named(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) if agent.is_empty() => "a program".to_owned(),
        (None, None) => agent.chars().take(40).collect(),
    }
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Invalid(problem) => Refusal::bad_request(problem),
            AccountError::Taken => {
                Refusal::new(StatusCode::CONFLICT, "Somebody has this user name.")
            }
            error => {
                let detail = "Accounts cannot be read or written at the moment. Please try again.";
                Refusal::unavailable(&error, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_a_page_of_the_shop_only() {
        for own in ["/", "/basket", "/orders/abc?x=y"] {
            assert_eq!(own_page(own), own);
        }
        for other in [
            "",
            "//evil.org",
            "https://evil.org",
            "/\\evil.org",
            "/a\nb",
            "basket",
        ] {
            assert_eq!(own_page(other), "/", "{other:?}");
        }
    }

    #[test]
    fn a_device_has_a_name_that_a_person_knows() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        assert_eq!(device(firefox), "Firefox on Linux");
        let phone =
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36";
        assert_eq!(device(phone), "Chrome on Android");
        assert_eq!(device(""), "a program");
        assert_eq!(device("curl/8"), "curl");
    }
}
