//! How often a server has run each command.

use std::collections::BTreeMap;

use super::Server;
use crate::Error;

impl Server {
    /// How often it has run each command since it started, by the command's name in lower case; the calls that scripts
    /// make are among them, each for itself. A subcommand is behind a bar: `config|get`.
    ///
    /// # Errors
    /// [`Error`] when the server does not answer or refuses.
    pub async fn calls(&self) -> Result<BTreeMap<String, u64>, Error> {
        let reply = self.raw(&["INFO", "commandstats"]).await?;
        let Some(stats) = reply.text() else {
            return Err(Error::Refused {
                command: "INFO commandstats".to_owned(),
                reply: format!("{reply:?}"),
            });
        };
        Ok(stats.lines().filter_map(read).collect())
    }

    /// The commands that it has run since it had run `before`, in the order of their names, with a space between them
    /// and each as often as it was run. Left out is what drivers send of themselves, at any time: for connections, and
    /// around what they send.
    ///
    /// # Errors
    /// As [`calls`](Self::calls).
    pub async fn calls_since(&self, before: &BTreeMap<String, u64>) -> Result<String, Error> {
        let mut called = Vec::new();
        for (name, calls) in self.calls().await? {
            let ran = calls.saturating_sub(before.get(&name).copied().unwrap_or(0));
            if !is_of_drivers(&name) {
                called.extend((0..ran).map(|_| name.clone()));
            }
        }
        Ok(called.join(" "))
    }
}

fn is_of_drivers(command: &str) -> bool {
    const ALONE: [&str; 7] = ["auth", "exec", "hello", "info", "multi", "ping", "select"];
    ALONE.contains(&command) || command.contains('|')
}

/// A line such as `cmdstat_get:calls=7,usec=12,…`.
fn read(line: &str) -> Option<(String, u64)> {
    let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let calls = fields.split(',').next()?.parse().ok()?;
    Some((name.to_owned(), calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_statistics_gives_the_name_and_the_calls() {
        let line = "cmdstat_config|get:calls=12,usec=3,usec_per_call=0.25";
        assert_eq!(read(line), Some(("config|get".to_owned(), 12)));
        assert_eq!(read("# Commandstats"), None);
        assert!(is_of_drivers("client|setinfo") && is_of_drivers("auth") && !is_of_drivers("get"));
    }
}
