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
    }
}
