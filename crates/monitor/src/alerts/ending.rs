//! Ends of episodes: one is told once Redis has said that no other instance fires, or has not answered for long.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::alert::Alert;

/// An end that Redis has not been told of.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) alert: Alert,
    pub(super) episode: u64,
    /// When it ended here.
    pub(super) since: Instant,
    /// Whether the receivers have been told.
    pub(super) is_told: bool,
}

impl Shared {
    /// Tells Redis of the ends, and the receivers of those that Redis confirms. An end that it has not answered about
    /// for `patience` is told all the same: rather twice than never.
    pub(super) async fn end_all(&self, now: Instant, patience: Duration) {
        let endings: Vec<_> = {
            let endings = self.endings.lock();
            let all = endings.iter();
            all.map(|(id, ending)| (id.clone(), ending.clone()))
                .collect()
        };
        let mut is_silent = false;
        for (id, mut ending) in endings {
            let closed = match is_silent {
                // It is waited for once in a look.
                true => None,
                false => self.close(&id, &ending).await,
            };
            match closed {
                Some(is_over) => {
                    self.endings.lock().remove(&id);
                    if is_over {
                        self.tell_end(&id, &ending);
                    }
                }
                None => {
                    is_silent = true;
                    if !ending.is_told && now.saturating_duration_since(ending.since) >= patience {
                        self.tell_end(&id, &ending);
                        ending.is_told = true;
                        self.endings.lock().insert(id, ending);
                    }
                }
            }
        }
    }

    /// Tells an end that is held back, before its alert fires again.
    pub(super) async fn end_before(&self, id: &str) {
        let ending = self.endings.lock().remove(id);
        if let Some(ending) = ending.filter(|ending| !ending.is_told)
            && self.close(id, &ending).await != Some(false)
        {
            self.tell_end(id, &ending);
        }
    }

    /// Whether the episode is over; nothing when Redis cannot be asked.
    async fn close(&self, id: &str, ending: &Ending) -> Option<bool> {
        let closed = self.fleet.close(id, ending.episode, ending.is_told).await;
        closed.ok()
    }

    fn tell_end(&self, id: &str, ending: &Ending) {
        self.fleet.note_end(id, ending.episode);
        if !ending.is_told {
            self.send_shared(&ending.alert);
        }
    }
}
