//! What those who work in the shop see and do.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::Parts;
use super::input::Fields;
use super::visitor::Staff;
use crate::notifications::Notification;
use crate::pages;
use crate::refusal::Refusal;

#[derive(Deserialize)]
pub(super) struct Announcement {
    text: String,
    /// User names with commas between them; everybody without any.
    #[serde(default)]
    to: String,
}

pub(super) async fn page(State(parts): State<Parts>, _: Staff) -> Result<Response, Refusal> {
    let ready = parts.health.ready().await;
    let progress = parts.jobs.progress().await;
    let firing = parts.background.firing();
    Ok(pages::staff(&ready, progress.as_ref(), &firing).into_response())
}

pub(super) async fn broadcast(
    State(parts): State<Parts>,
    _: Staff,
    Fields(entered): Fields<Announcement>,
) -> Result<Response, Refusal> {
    let text = entered.text.trim();
    if text.is_empty() || text.chars().count() > 300 {
        return Err(Refusal::bad_request(
            "An announcement has 1 to 300 characters.",
        ));
    }
    let names = entered.to.split(',').map(|name| name.trim().to_lowercase());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    let accounts = parts.accounts.ids(&names).await?;
    let note = Notification::announcement(text);
    let told = parts.notifications.broadcast(&accounts, &note).await?;
    Ok(pages::told(told).into_response())
}

pub(super) async fn warm(State(parts): State<Parts>, _: Staff) -> Result<Redirect, Refusal> {
    parts.jobs.ask_for_warming("by-hand", "by hand").await?;
    Ok(Redirect::to("/staff"))
}
