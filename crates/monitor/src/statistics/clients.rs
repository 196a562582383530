//! The servers' connections (`CLIENT LIST`).

use std::sync::Arc;
use std::time::Duration;

use redkit_core::Command;

use super::Statistics;
use crate::error::Error;

/// A connection of a client, as its server sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientConnection {
    /// Its number at the server.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// The name that the client gave.
    pub name: String,
    /// The user.
    pub user: String,
    /// For how long it stands.
    pub age: Duration,
    /// For how long nothing has come.
    pub idle: Duration,
    /// The server's letters: `N` for nothing special, `b` for blocked, `S` for a replica, …
    pub flags: String,
    /// The last command.
    pub command: String,
    /// The client library and its version, where the server has been told.
    pub library: String,
    /// Subscriptions to channels and patterns.
    pub subscriptions: u64,
    /// Bytes of replies that wait to be sent.
    pub output_bytes: u64,
    /// Bytes that the connection takes at the server.
    pub memory_bytes: u64,
}

impl Statistics {
    /// The connections of every server, at most `most` of each. Each server sends its whole list (`CLIENT LIST`),
    /// about 400 bytes a connection; a server that does not answer is left out.
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server answered.
    pub async fn clients(
        &self,
        most: usize,
    ) -> Result<Vec<(Arc<str>, Vec<ClientConnection>)>, Error> {
        let replies = self
            .ask_all::<String>(|| Command::new("CLIENT").arg("LIST"))
            .await?;
        let answered = replies.into_iter().filter_map(|(server, reply)| {
            let text = reply.ok()?;
            let rows = text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .take(most);
            Some((server, rows.map(ClientConnection::parse).collect()))
        });
        Ok(answered.collect())
    }
}

impl ClientConnection {
    fn parse(line: &str) -> Self {
        let mut client = Self::default();
        for (name, value) in line
            .split_whitespace()
            .filter_map(|field| field.split_once('='))
        {
            let count = || value.parse::<u64>().unwrap_or_default();
            match name {
                "id" => client.id = count(),
                "addr" => client.address = value.to_owned(),
                "name" => client.name = value.to_owned(),
                "user" => client.user = value.to_owned(),
                "age" => client.age = Duration::from_secs(count()),
                "idle" => client.idle = Duration::from_secs(count()),
                "flags" => client.flags = value.to_owned(),
                "cmd" => client.command = value.to_owned(),
                "lib-name" if !value.is_empty() => client.library = value.to_owned(),
                "lib-ver" if !value.is_empty() => {
                    client.library = format!("{} {value}", client.library).trim().to_owned();
                }
                "sub" | "psub" | "ssub" => client.subscriptions += count(),
                "omem" => client.output_bytes = count(),
                "tot-mem" => client.memory_bytes = count(),
                _ => {}
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_field_by_field() {
        let row = "id=7 addr=10.0.0.1:5 laddr=a name=web age=9 idle=2 flags=N db=0 sub=1 psub=2 ssub=0 \
                   tot-mem=1928 omem=0 cmd=client|list user=default lib-name=redkit lib-ver=0.1 resp=3";
        let client = ClientConnection::parse(row);
        assert_eq!(
            (client.id, client.subscriptions, client.memory_bytes),
            (7, 3, 1928)
        );
        assert_eq!(
            (client.name.as_str(), client.library.as_str()),
            ("web", "redkit 0.1")
        );
    }
}
