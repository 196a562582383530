//! [`Redaction`]: the program's hook, which decides what is shown of payloads and arguments.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Value, json};

/// The program's hook: field and text, and what is shown of it.
type Hook = dyn Fn(&str, &str) -> Option<String> + Send + Sync;

/// The hook, or that all is shown.
#[derive(Clone, Default)]
pub(super) struct Redaction(Option<Arc<Hook>>);

impl Redaction {
    pub(super) fn new(hook: Arc<Hook>) -> Self {
        Self(Some(hook))
    }

    /// What is shown of a text. Nothing is shown when the hook panics.
    pub(super) fn shown(&self, field: &str, text: String) -> String {
        let Some(hook) = &self.0 else {
            return text;
        };
        let shown = catch_unwind(AssertUnwindSafe(|| hook(field, &text)));
        shown.ok().flatten().unwrap_or_else(|| "hidden".to_owned())
    }

    /// Hides what the hook hides of the payloads of a page.
    pub(super) fn hide(&self, page: &mut Value) {
        if self.0.is_none() {
            return;
        }
        let items = page.get_mut("items").and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            let payload = item.get_mut("payload").and_then(Value::as_object_mut);
            for (field, value) in payload.into_iter().flatten() {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                *value = json!(self.shown(field, text));
            }
        }
    }
}
