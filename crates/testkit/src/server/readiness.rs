//! Whether a server that was started answers.

use std::path::Path;
use std::time::{Duration, Instant};

use super::process::Process;
use super::raw::{self, RawReply};

/// How long a server may take to come up. It takes some ten milliseconds; the rest is for a
/// machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until this very process answers and has loaded its data. Gives how long it waited and what
/// it saw last if that does not come about.
pub(super) fn await_answer(
    socket: &Path,
    password: Option<&str>,
    process: &Process,
) -> Result<(), (Duration, String)> {
    let started = Instant::now();
    let ours = format!("\r\nprocess_id:{}\r\n", process.pid().as_raw_nonzero());
    loop {
        // Before the question, so that an answer given just before the end still counts.
        let ended = process.has_ended();
        let cause = match raw::exchange(socket, password, &[b"INFO".to_vec()]) {
            Ok(RawReply::Bulk(info)) => {
                let info = String::from_utf8_lossy(&info);
                if info.contains(&ours) && !info.contains("\r\nloading:1\r\n") {
                    return Ok(());
                }
                "it is still loading, or another server answers".to_owned()
            }
            Ok(reply) => format!("{reply:?}"),
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if ended {
            return Err((waited, "it ended".to_owned()));
        }
        if waited > PATIENCE {
            return Err((waited, cause));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
