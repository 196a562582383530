//! How a limiter's call waits for its turn.

use redkit_core::Key;
use tokio::time::Instant;

use crate::deciding::{Call, Inner, Place};
use crate::decision::{DecidedBy, Decision};
use crate::error::{Error, is_outage};
use crate::line::{Outcome, Wait};
use crate::outage::OnOutage;
use crate::scripts::place_id;

impl Inner {
    /// Waits until the call is allowed, or it is clear that it will not be before `deadline`.
    pub(crate) async fn wait(&self, call: Call<'_>, deadline: Instant) -> Result<Decision, Error> {
        let server = self.server(&call)?;
        match self.wait_at(&server, &call, deadline).await? {
            Ok(decision) => {
                self.outage.is_over(&self.name);
                Ok(decision)
            }
            Err(error) if is_outage(&error) => match &self.on_outage {
                OnOutage::Local { client, instances } => {
                    self.outage.is_on(&self.name, &error);
                    match self.local(&server, &call, client, *instances)? {
                        Some(local) => Ok(self.wait_at(&local, &call, deadline).await??),
                        None => self.decide_alone(&server, &call, error).await,
                    }
                }
                _ => self.decide_alone(&server, &call, error).await,
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn wait_at(
        &self,
        place: &Place<'_>,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Result<Decision, redkit_core::Error>, Error> {
        let plans = self.without_patience(place, call)?;
        let asks = self.asks(&plans, call);
        let (line, beats) = self.line(call);
        let wait = Wait {
            client: place.client,
            asks: &asks,
            line,
            beats,
            places: self.max_waiters,
            goes_on: place.by == DecidedBy::Redis && self.on_outage.leaves_it_to_the_caller(),
            errands: &self.errands,
            id: place_id(call.cost),
        };
        let outcome = match wait.until(deadline).await {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        let place = Place {
            client: place.client,
            plans,
            by: place.by,
        };
        match outcome {
            Outcome::Through(saids, _) => Ok(Ok(self.decision(&place, call, true, &saids))),
            Outcome::GivenUp(saids, wait) => {
                let mut decision = self.decision(&place, call, false, &saids);
                decision.make_wait(wait);
                Ok(Ok(decision))
            }
            Outcome::Full => Err(Error::LineFull(self.max_waiters)),
        }
    }

    /// The keys of the line in which callers for the same owner wait.
    pub(crate) fn line(&self, call: &Call<'_>) -> (Key, Key) {
        // There is a first limit, or the limiter could not have been built.
        let key = |role| {
            self.limits
                .first()
                .map_or(Key::from_raw(""), |limit| limit.key_with(call.owner, role))
        };
        (key("line"), key("beats"))
    }
}
