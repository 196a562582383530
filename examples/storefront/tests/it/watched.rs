//! The dashboard of the fleet, as a page that is open has it.

use std::time::SystemTime;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::customer::Customer;

/// What the page showed at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) at: SystemTime,
    /// `ok`, `warn`, `bad`
    pub(crate) level: String,
    pub(crate) text: String,
    pub(crate) processes: usize,
}

/// An open page.
pub(crate) struct Watched {
    reading: JoinHandle<()>,
    looks: std::sync::Arc<std::sync::Mutex<Vec<Look>>>,
}

impl Watched {
    /// Opens it, as staff.
    pub(crate) async fn open(staff: &Customer) -> Self {
        let mut stream = staff.stream("/admin/events").await;
        let looks = std::sync::Arc::<std::sync::Mutex<Vec<Look>>>::default();
        let kept = std::sync::Arc::clone(&looks);
        let reading = tokio::spawn(async move {
            while let Some(event) = stream.next_event().await {
                let data = event.strip_prefix("event: state\ndata: ");
                let Some(data) = data else { continue };
                let state: Value = serde_json::from_str(data.trim()).unwrap();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                kept.lock().unwrap().push(Look {
                    at: SystemTime::now(),
                    level: text(&state["verdict"]["level"]),
                    text: text(&state["verdict"]["text"]),
                    processes: state["processes"].as_array().map_or(0, Vec::len),
                });
            }
        });
        Self { reading, looks }
    }

    /// Closes it, and gives all that it showed.
    pub(crate) async fn close(self) -> Vec<Look> {
        assert!(!self.reading.is_finished(), "the page's stream ended");
        self.reading.abort();
        self.looks.lock().unwrap().clone()
    }
}
