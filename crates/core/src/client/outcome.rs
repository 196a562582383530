//! The outcome of a call that took several attempts: the worst of them.

use crate::error::{CallError, Fault};

/// What the attempts before the last one leave open.
#[derive(Debug, Default)]
pub(super) struct EarlierAttempts {
    /// The first of them that may have been carried out.
    unknown: Option<Fault>,
}

impl EarlierAttempts {
    /// Notes how an attempt ended that is followed by another.
    pub(super) fn note(&mut self, error: CallError) {
        if let CallError::Maybe(fault) = error {
            self.unknown.get_or_insert(fault);
        }
    }

    /// Makes of the last attempt's failure the call's: that nothing was sent, or that the server
    /// refused, is true of the last attempt only.
    pub(super) fn add_to(&self, error: &mut CallError) {
        let Some(earlier) = &self.unknown else {
            return;
        };
        *error = match &*error {
            CallError::NotSent(fault) => {
                let message =
                    format!("{fault}; an earlier attempt may have been carried out ({earlier})");
                Fault::new(fault.kind(), message)
                    .with_source(fault.clone())
                    .maybe()
            }
            CallError::Replied(refusal) if refusal.is_server_state() => {
                let message = format!("{earlier}; the repetition was refused: {refusal}");
                Fault::new(earlier.kind(), message)
                    .with_source(earlier.clone())
                    .maybe()
            }
            CallError::Replied(_) | CallError::Maybe(_) => return,
        };
    }
}
