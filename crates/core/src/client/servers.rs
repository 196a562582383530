//! Asking each server by itself, for programs that look after servers.

use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use crate::backend::ServerNode;
use crate::command::Command;
use crate::error::Error;
use crate::value::FromValue;

impl Client {
    /// The servers that take writes now: one, or the masters of a cluster; none while a cluster's are not
    /// known yet.
    pub fn servers(&self) -> Vec<ServerNode> {
        self.backend().servers()
    }

    /// Sends a command to one of the [servers](Self::servers), for health checks and statistics: past
    /// [breaker](Self::breaker), budget, admission, retry and metrics, so that it says how the server is and
    /// changes nothing about it. It ends by its own deadline, or the command timeout. A redirection is an
    /// error: name keys that the server [serves](ServerNode::serves).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// ```
    /// # async fn example(client: &redkit_core::Client) -> Result<(), redkit_core::Error> {
    /// use redkit_core::Command;
    ///
    /// for server in client.servers() {
    ///     let keys: u64 = client.call_server(&server.name, Command::new("DBSIZE")).await?;
    ///     println!("{}: {keys} keys", server.name);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn call_server<T: FromValue>(
        &self,
        server: &str,
        mut command: Command,
    ) -> Result<T, Error> {
        let reply = self
            .calls
            .run_past_breaker(server, &mut command, Instant::now());
        match reply.await {
            Ok(value) => value.to().map_err(|error| Error::Reply {
                command: command.name().into(),
                error,
            }),
            Err(error) => Err(Error::call(command.name(), error)),
        }
    }

    /// What each of the sentinels says of whether enough of them see each other to agree on a failover
    /// (`SENTINEL CKQUORUM`): an error with the code `NOQUORUM` when they do not. None where no sentinels are
    /// asked for the server. Each sentinel is asked on a connection of its own, for no longer than `limit`.
    pub async fn check_quorum(&self, limit: Duration) -> Vec<(Box<str>, Result<(), Error>)> {
        let said = self.backend().check_quorum(limit).await.into_iter();
        said.map(|(sentinel, said)| {
            let said = said
                .map(drop)
                .map_err(|error| Error::call("SENTINEL", error));
            (sentinel, said)
        })
        .collect()
    }
}
