//! Making a connection: the first one, and one that takes the place of a connection that gives no sign of life.

use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use crate::driver::link::{Connector, Identity, Link, Timing};
use crate::error::{Fault, FaultKind};

/// Makes one connection. An attempt may take all of `connect_timeout`; when that passes without a
/// word, a server may have been stopped, or bytes may have been lost on the way, and may answer a
/// new attempt at once. So next to the first, patient attempt there is an impatient one. There are
/// never more than the two.
pub(super) async fn connect<C: Connector>(connector: &C, timing: Timing) -> Result<C::Link, Fault> {
    tokio::select! {
        outcome = timeout(timing.connect_timeout, connector.connect()) => {
            outcome.unwrap_or_else(|_| Err(connect_timed_out(connector, timing)))
        }
        link = impatient(connector) => Ok(link),
    }
}

/// From `begin` on, makes a connection on which the server serves, however many attempts it takes. While it does so and
/// holds back what was sent on the connection that is `silent`, that connection is alive, and needs none in its place.
pub(super) async fn replacement<C: Connector>(
    connector: &C,
    timing: Timing,
    begin: Instant,
    silent: Option<Identity>,
) -> C::Link {
    sleep_until(begin).await;
    loop {
        if let Ok(link) = connect(connector, timing).await {
            if serves(&link, timing, silent).await {
                return link;
            }
            link.close();
        }
        sleep(IMPATIENCE).await;
    }
}

/// Waits until the server serves on a new connection, and holds nothing back on the one that is `silent`; gives `false`
/// when it no longer answers on the new one.
async fn serves<L: Link>(link: &L, timing: Timing, silent: Option<Identity>) -> bool {
    let mut was_refused = false;
    let mut pause = IMPATIENCE;
    while let Ok(Ok(refusal)) = timeout(timing.probe_timeout, link.ping()).await {
        match refusal {
            None if !was_refused => {
                let Some(silent) = silent else { return true };
                // A server that does not say is taken at the answer to `PING`.
                let is_held_back = timeout(timing.probe_timeout, link.holds_back(silent));
                if !is_held_back.await.unwrap_or(false) {
                    return true;
                }
                // It answers there by itself as soon as it may; until then every client asks.
                pause = (pause * 2).min(HELD_BACK);
            }
            // A server that was busy or loading answers on the other connection as well, if that is
            // alive: it gets time to.
            None => was_refused = false,
            // Nobody knows how long it will be busy, and calls can succeed as soon as it is not: it is asked as
            // often as before it held anything back.
            Some(_) => {
                was_refused = true;
                pause = IMPATIENCE;
            }
        }
        sleep(pause).await;
    }
    false
}

/// Tries to connect again and again, with little time for each attempt, and reports no failure.
async fn impatient<C: Connector>(connector: &C) -> C::Link {
    loop {
        // Also the first: who gets an answer within this time has no need of a second attempt.
        sleep(IMPATIENCE).await;
        if let Ok(Ok(link)) = timeout(IMPATIENCE, connector.connect()).await {
            return link;
        }
    }
}

/// The longest pause between two questions while the server holds back what was sent on the other connection.
const HELD_BACK: Duration = Duration::from_millis(500);

/// Twice this, the longest time between two attempts, stays under the 100 ms in which a server
/// that answers again should be in use again.
pub(super) const IMPATIENCE: Duration = Duration::from_millis(40);

fn connect_timed_out<C: Connector>(connector: &C, timing: Timing) -> Fault {
    let message = format!(
        "{} did not complete a connection within {:?} (`connect_timeout`); check that the server \
         runs, and whether the port wants TLS (rediss://) or not (redis://)",
        connector.target(),
        timing.connect_timeout
    );
    Fault::new(FaultKind::Connect, message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::backend::Capabilities;
    use crate::config::ClientConfig;
    use crate::driver::activity::Activity;
    use crate::error::ServerError;

    /// A connection to a server that holds back what was sent on another one, so many times, and is busy after that for
    /// as many answers as `busy` says.
    struct HoldsBack {
        asked: AtomicU32,
        times: u32,
        busy: AtomicU32,
        activity: Activity,
    }

    impl HoldsBack {
        fn new(times: u32, busy: u32) -> Self {
            Self {
                asked: AtomicU32::new(0),
                times,
                busy: AtomicU32::new(busy),
                activity: Activity::new(),
            }
        }
    }

    #[async_trait]
    impl Link for HoldsBack {
        async fn closed(&self) {
            std::future::pending().await
        }

        async fn ping(&self) -> Result<Option<ServerError>, Fault> {
            if self.asked.load(Ordering::Relaxed) < self.times {
                return Ok(None);
            }
            let one_less = |left: u32| left.checked_sub(1);
            let is_busy = self
                .busy
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            Ok(is_busy
                .is_ok()
                .then(|| ServerError::new("BUSY", "a script runs")))
        }

        fn activity(&self) -> &Activity {
            &self.activity
        }

        fn close(&self) {}

        fn capabilities(&self) -> Capabilities {
            Capabilities::UNKNOWN
        }

        async fn holds_back(&self, _: Identity) -> bool {
            self.asked.fetch_add(1, Ordering::Relaxed) < self.times
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_holds_back_for_long_is_asked_twice_a_second() {
        let timing = Timing::of(&ClientConfig::default());
        let silent = Some(Identity::new(1));
        let paused = HoldsBack::new(u32::MAX, 0);
        let serving = serves(&paused, timing, silent);
        timeout(Duration::from_secs(60), serving)
            .await
            .expect_err("it is held back");
        let asked = paused.asked.load(Ordering::Relaxed);
        assert!((115..=130).contains(&asked), "{asked} times in a minute");
        let resumed = HoldsBack::new(3, 0);
        let resumed = serves(&resumed, timing, silent);
        let resumed = timeout(Duration::from_secs(1), resumed).await;
        assert_eq!(resumed, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_busy_after_it_held_back_is_in_use_soon_after_it_serves() {
        let timing = Timing::of(&ClientConfig::default());
        let silent = Some(Identity::new(1));
        // It is held back for seconds, until it is asked twice a second.
        let link = HoldsBack::new(10, 1);
        let serving = serves(&link, timing, silent);
        let busy_at = async {
            while link.busy.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            Instant::now()
        };
        let (is_serving, busy_at) = tokio::join!(serving, busy_at);
        assert!(is_serving);
        let late = busy_at.elapsed();
        assert!(late <= Duration::from_millis(100), "{late:?}");
    }
}
