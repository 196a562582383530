//! [`Sink`]: where alerts go.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc};

use super::alert::{Alert, AlertState};
use super::rule::Severity;

/// Where alerts go.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be told of alerts",
    label = "not a sink for alerts",
    note = "`LogSink`, `ChannelSink` and `Webhook` (feature `webhook`) are ones"
)]
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// A short name, the same in every instance: letters, digits, `-`, `_`, `.`.
    fn name(&self) -> &str;

    /// Whether all instances of the program send to the same receiver, so that one of them should. By default
    /// yes.
    fn is_shared(&self) -> bool {
        true
    }

    /// How long [`send`](Self::send) may take. By default five seconds; at most a minute counts.
    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Tells an alert. It may be told again with the same [`key`](Alert::key).
    ///
    /// # Errors
    /// [`SinkError`], which says whether it makes sense to try again.
    async fn send(&self, alert: &Alert) -> Result<(), SinkError>;
}

/// Why an alert was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct SinkError {
    /// What happened, and what to do about it. It must hold no secret.
    pub message: String,
    /// Whether the same may succeed later.
    pub is_retryable: bool,
}

impl SinkError {
    /// It may succeed later.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_retryable: true,
        }
    }

    /// It will fail again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            is_retryable: false,
            ..Self::retryable(message)
        }
    }
}

/// Writes alerts to this process's log, as `tracing` events of the target `redkit::alerts`: errors for critical
/// ones, warnings, and information.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

#[async_trait]
impl Sink for LogSink {
    fn name(&self) -> &str {
        "log"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        let (key, state) = (alert.key.as_str(), alert.state.as_str());
        match (alert.state, alert.severity) {
            (AlertState::Firing, Severity::Critical) => {
                tracing::error!(target: "redkit::alerts", key, state, "{alert}");
            }
            (AlertState::Firing, Severity::Warning) => {
                tracing::warn!(target: "redkit::alerts", key, state, "{alert}");
            }
            _ => tracing::info!(target: "redkit::alerts", key, state, "{alert}"),
        }
        Ok(())
    }
}

/// Gives alerts to a part of this process.
#[derive(Debug, Clone)]
pub struct ChannelSink(Channel);

#[derive(Debug, Clone)]
enum Channel {
    Queue(mpsc::Sender<Alert>),
    Broadcast(broadcast::Sender<Alert>),
}

impl From<mpsc::Sender<Alert>> for ChannelSink {
    /// A full queue is tried again.
    fn from(sender: mpsc::Sender<Alert>) -> Self {
        Self(Channel::Queue(sender))
    }
}

impl From<broadcast::Sender<Alert>> for ChannelSink {
    /// An alert that nobody listens to is gone.
    fn from(sender: broadcast::Sender<Alert>) -> Self {
        Self(Channel::Broadcast(sender))
    }
}

#[async_trait]
impl Sink for ChannelSink {
    fn name(&self) -> &str {
        "channel"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        match &self.0 {
            Channel::Queue(sender) => match sender.try_send(alert.clone()) {
                Ok(()) => Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    Err(SinkError::retryable("the channel is full"))
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    Err(SinkError::permanent("nobody receives from the channel"))
                }
            },
            Channel::Broadcast(sender) => {
                let _ = sender.send(alert.clone());
                Ok(())
            }
        }
    }
}
