//! What the page's buttons ask for: actions, pages of lists, the analysis. Rights first, then the audit, then the deed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use redkit_core::inspection::Query;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::guard::{Seen, refusal};
use crate::dashboard::Inner;
use crate::dashboard::access::Viewer;
use crate::dashboard::audit::Act;
use crate::dashboard::orders::{self, Order, OrderError, Outcome, Task};

/// How long what is done in this process may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActRequest {
    kind: String,
    name: String,
    action: String,
    #[serde(default)]
    argument: String,
    /// The only instance that it is for; any that has the object when it is empty.
    #[serde(default)]
    instance: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRequest {
    kind: String,
    name: String,
    list: String,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    instance: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectsRequest {
    kind: String,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnalysisRequest {
    #[serde(default)]
    sample_every: u32,
}

pub(super) async fn act(
    State(inner): State<Arc<Inner>>,
    Seen(viewer): Seen,
    request: Result<Json<ActRequest>, JsonRejection>,
) -> Response<Body> {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let ActRequest {
        kind,
        name,
        action,
        argument,
        instance,
    } = request;
    let act = Act {
        viewer: &viewer.name,
        kind: &kind,
        name: &name,
        action: &action,
        argument: &argument,
    };
    if !viewer.rights.may_act(&kind, &action) {
        inner.audit.refuse(act, "no right").await;
        return refusal(
            StatusCode::FORBIDDEN,
            &format!("you have no right to {action} {kind}"),
        );
    }
    let begun = match inner.audit.begin(act).await {
        Ok(begun) => begun,
        Err(error) => {
            let why = format!("nothing was done, because the audit cannot be written: {error}");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let order = Order {
        id: String::new(),
        to: instance,
        until: 0,
        by: viewer.name.clone(),
        kind: kind.clone(),
        name: name.clone(),
        task: Task::Act {
            action: action.clone(),
            argument: argument.clone(),
        },
    };
    // In a task of its own: a browser that goes away takes neither the deed nor its entry in the audit with it.
    let (for_task, viewer, begun) = (Arc::clone(&inner), viewer.clone(), begun);
    let deed = tokio::spawn(async move {
        let done = carry_out(&for_task, order, false).await;
        let act = Act {
            viewer: &viewer.name,
            kind: &kind,
            name: &name,
            action: &action,
            argument: &argument,
        };
        let (outcome, text) = match &done {
            Ok(Outcome::Done(text)) => ("done", text.clone()),
            Ok(Outcome::Failed(text)) => ("failed", text.clone()),
            Ok(Outcome::Page(_)) => ("failed", "the answer makes no sense".to_owned()),
            Err(OrderError::NoAnswer) => ("unknown", OrderError::NoAnswer.to_string()),
            Err(error) => ("failed", error.to_string()),
        };
        for_task.audit.end(&begun, act, outcome, &text).await;
        (outcome, text)
    });
    match deed.await {
        Ok(("done", text)) => Json(json!({ "outcome": "done", "text": text })).into_response(),
        Ok(("unknown", text)) => refusal(StatusCode::GATEWAY_TIMEOUT, &text),
        Ok((_, text)) => refusal(StatusCode::CONFLICT, &text),
        Err(_) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it could not be carried out",
        ),
    }
}

pub(super) async fn list(
    State(inner): State<Arc<Inner>>,
    Seen(viewer): Seen,
    request: Result<Json<ListRequest>, JsonRejection>,
) -> Response<Body> {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let payloads = viewer.rights.may_see_payloads();
    let ListRequest {
        kind,
        name,
        list,
        filter,
        cursor,
        count,
        instance,
    } = request;
    let count = page_length(count);
    let order = Order {
        id: String::new(),
        to: instance,
        until: 0,
        by: viewer.name.clone(),
        kind: kind.clone(),
        name,
        task: Task::List {
            list,
            filter,
            cursor,
            count,
            payloads,
        },
    };
    match carry_out(&inner, order, payloads).await {
        Ok(Outcome::Page(mut page)) => {
            for_viewer(&viewer, &kind, &mut page);
            Json(page).into_response()
        }
        Ok(Outcome::Failed(text)) => refusal(StatusCode::CONFLICT, &text),
        Ok(Outcome::Done(_)) => refusal(StatusCode::CONFLICT, "the answer makes no sense"),
        Err(error @ OrderError::NoAnswer) => {
            refusal(StatusCode::GATEWAY_TIMEOUT, &error.to_string())
        }
        Err(error) => refusal(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// The objects of a kind, of which each update of the page has only some.
pub(super) async fn objects(
    State(inner): State<Arc<Inner>>,
    Seen(_): Seen,
    request: Result<Json<ObjectsRequest>, JsonRejection>,
) -> Response<Body> {
    let ObjectsRequest {
        kind,
        filter,
        cursor,
        count,
    } = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let from = match cursor.as_str() {
        "" => Ok(0),
        text => text.parse::<usize>(),
    };
    let Ok(from) = from else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "the cursor is that of the page before",
        );
    };
    let page = inner
        .collector
        .objects(&kind, &filter, from, page_length(count));
    match timeout(PATIENCE, page).await {
        Ok(Ok(page)) => Json(page).into_response(),
        Ok(Err(error)) => refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
        Err(_) => refusal(StatusCode::GATEWAY_TIMEOUT, "it took too long"),
    }
}

/// How many items a page has: fifty unless it says otherwise, and never more than a list may give.
fn page_length(wanted: usize) -> usize {
    match wanted {
        0 => 50,
        wanted => wanted.min(Query::MOST),
    }
}

/// Takes out the actions that the viewer has no right to.
fn for_viewer(viewer: &Viewer, kind: &str, page: &mut Value) {
    let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) else {
        return;
    };
    for item in items {
        if let Some(actions) = item.get_mut("actions").and_then(Value::as_array_mut) {
            actions.retain(|action| {
                let name = action.get(0).and_then(Value::as_str).unwrap_or_default();
                viewer.rights.may_act(kind, name)
            });
        }
    }
}

/// Does it here when this process has the object, and has another instance do it otherwise.
async fn carry_out(inner: &Inner, mut order: Order, payloads: bool) -> Result<Outcome, OrderError> {
    let instance = &inner.instance;
    let is_here = (order.to.is_empty() || order.to == instance.id)
        && instance.has_object(&order.kind, &order.name);
    if is_here {
        let Order {
            kind, name, task, ..
        } = &order;
        let work = async {
            match task {
                Task::Act { action, argument } => instance
                    .act(kind, name, action, argument)
                    .await
                    .map(Outcome::Done),
                Task::List { list, .. } => {
                    let query = task.query();
                    let page = instance.list(kind, name, list, &query, payloads);
                    page.await.map(Outcome::Page)
                }
            }
        };
        return Ok(match timeout(PATIENCE, work).await {
            Ok(done) => done.unwrap_or_else(|error| Outcome::Failed(error.to_string())),
            Err(_) => return Err(OrderError::NoAnswer),
        });
    }
    if order.to.is_empty() {
        let others = instance.others().await?;
        let owner = others.into_iter().find(|other| {
            let mut objects = other.objects.iter();
            objects.any(|object| object.kind == order.kind && object.name == order.name)
        });
        match owner {
            Some(owner) => order.to = owner.id,
            None => {
                return Ok(Outcome::Failed(
                    "no process has such an object now".to_owned(),
                ));
            }
        }
    }
    let Some(seal) = &instance.seal else {
        let why =
            "only another process has it, and this one may give no orders: it has no command key";
        return Ok(Outcome::Failed(why.to_owned()));
    };
    let mut outcome = orders::send(&instance.client, &instance.keys, seal, order).await?;
    // The owner's hook has been asked; this process may have another.
    if let Outcome::Page(page) = &mut outcome {
        instance.redaction.hide(page);
    }
    Ok(outcome)
}

pub(super) async fn begin_analysis(
    State(inner): State<Arc<Inner>>,
    Seen(viewer): Seen,
    request: Result<Json<AnalysisRequest>, JsonRejection>,
) -> Response<Body> {
    let Ok(Json(AnalysisRequest { sample_every })) = request else {
        return refusal(StatusCode::BAD_REQUEST, "give {\"sample_every\": 10} or {}");
    };
    let act = analysis_act(&viewer, "begin");
    if !viewer.rights.may_analyze() {
        inner.audit.refuse(act, "no right").await;
        return refusal(
            StatusCode::FORBIDDEN,
            "you have no right to analyze the key space",
        );
    }
    let begun = match inner.audit.begin(act).await {
        Ok(begun) => begun,
        Err(error) => return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let done = inner
        .keyspace
        .begin(&inner.instance.client, sample_every.max(1));
    let outcome = if done.is_ok() { "done" } else { "failed" };
    inner.audit.end(&begun, act, outcome, "").await;
    match done {
        Ok(()) => Json(inner.keyspace.read().await).into_response(),
        Err(error) => refusal(StatusCode::CONFLICT, &error.to_string()),
    }
}

pub(super) async fn cancel_analysis(
    State(inner): State<Arc<Inner>>,
    Seen(viewer): Seen,
) -> Response<Body> {
    let act = analysis_act(&viewer, "cancel");
    if !viewer.rights.may_analyze() {
        inner.audit.refuse(act, "no right").await;
        return refusal(
            StatusCode::FORBIDDEN,
            "you have no right to analyze the key space",
        );
    }
    let begun = match inner.audit.begin(act).await {
        Ok(begun) => begun,
        Err(error) => return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    inner.keyspace.cancel();
    inner.audit.end(&begun, act, "done", "").await;
    Json(inner.keyspace.read().await).into_response()
}

fn analysis_act<'v>(viewer: &'v Viewer, action: &'v str) -> Act<'v> {
    Act {
        viewer: &viewer.name,
        kind: "keyspace",
        name: "analysis",
        action,
        argument: "",
    }
}
