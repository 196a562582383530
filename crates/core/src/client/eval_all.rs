//! [`Client::eval_all`]: scripts and commands in one pipeline.

use std::collections::HashSet;

use super::Client;
use super::outcome::EarlierAttempts;
use crate::backend::Topology;
use crate::command::Command;
use crate::error::{CallError, Error};
use crate::script::Invocation;
use crate::value::Value;

/// What [`Client::eval_all`] sends: a call of a script, or a command.
#[derive(Debug, Clone)]
pub enum Request {
    /// A command.
    Command(Command),
    /// A call of a script.
    Script(Invocation),
}

impl From<Command> for Request {
    fn from(command: Command) -> Self {
        Request::Command(command)
    }
}

impl From<Invocation> for Request {
    fn from(invocation: Invocation) -> Self {
        Request::Script(invocation)
    }
}

impl Request {
    /// The command that is sent first: a script's by its hash.
    pub fn command(&self) -> &Command {
        match self {
            Request::Command(command) => command,
            Request::Script(invocation) => invocation.by_hash(),
        }
    }

    /// Whether carrying it out twice is as good as once: see [`Command::idempotent`].
    pub fn is_idempotent(&self) -> bool {
        self.command().is_idempotent()
    }

    /// Sets the instant after which no reply is waited for: see [`Command::deadline`].
    #[must_use]
    pub fn deadline(self, deadline: tokio::time::Instant) -> Self {
        match self {
            Request::Command(command) => Request::Command(command.deadline(deadline)),
            Request::Script(invocation) => Request::Script(invocation.deadline(deadline)),
        }
    }
}

impl Client {
    /// Sends scripts and commands together: one round trip, a reply to each, in their order. A server
    /// that does not have a script is sent its text, in one further round trip for all of them; a
    /// script that was missing then runs after the requests that stood behind it.
    ///
    /// The replies of one node come in the order of its requests. As with
    /// [`pipeline`](Self::pipeline) the whole is repeated only when nothing was sent, or all of it is
    /// idempotent.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use redkit_core::Script;
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    ///
    /// static ADD: Script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let add = |name: &str, by: i64| ADD.invoke([client.key(name)]).arg(by);
    /// let replies = client.eval_all([add("apples", 3), add("pears", 5)]).await?;
    /// assert_eq!(replies.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Call`] when nothing is known of any of them.
    pub async fn eval_all(
        &self,
        requests: impl IntoIterator<Item = impl Into<Request>>,
    ) -> Result<Vec<Result<Value, CallError>>, Error> {
        let requests: Vec<Request> = requests.into_iter().map(Into::into).collect();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands: Vec<Command> = requests.iter().map(|r| r.command().clone()).collect();
        // Of all rounds: a script that was lost and then missing may have run before it was.
        let mut earlier = EarlierAttempts::default();
        let mut replies = self.pipeline_after(&mut commands, &mut earlier).await?;
        // A server that does not have a script ran nothing, so sending it again is no repetition. In
        // the second round a node is given each text once, before the calls by hash that follow. Only
        // where a slot moves meanwhile are there calls left for the third, which carries every text.
        for round in [Round::EachTextOnce, Round::EveryText] {
            let missing = missing_scripts(&requests, &replies);
            if missing.is_empty() {
                break;
            }
            let mut again = self.again(round, &missing, &commands);
            let answered = match self.pipeline_after(&mut again, &mut earlier).await {
                Ok(answered) => answered,
                // The other requests' replies stand.
                Err(Error::Call { error, .. }) => vec![Err(error); missing.len()],
                Err(other) => return Err(other),
            };
            for ((at, _), reply) in missing.into_iter().zip(answered) {
                if let Some(place) = replies.get_mut(at) {
                    *place = reply;
                }
            }
        }
        Ok(replies)
    }

    /// Whether both stand on the same connections, so that their requests can go together.
    pub fn is_same_client(&self, other: &Client) -> bool {
        std::sync::Arc::ptr_eq(self.backend(), other.backend())
    }

    fn again(
        &self,
        round: Round,
        missing: &[(usize, &Invocation)],
        sent: &[Command],
    ) -> Vec<Command> {
        // Of a cluster only the slot says which node a call goes to.
        let is_cluster = self.topology() == Topology::Cluster;
        let mut texts = HashSet::new();
        let commands = missing.iter().map(|&(at, invocation)| {
            let slot = match is_cluster {
                true => invocation.by_hash().keys().next().map(crate::keys::slot),
                false => None,
            };
            let is_first = texts.insert((slot, invocation.sha().to_owned()));
            let command = match (is_first, round) {
                (false, Round::EachTextOnce) => invocation.by_hash().clone(),
                _ => invocation.by_source(),
            };
            match sent.get(at).and_then(Command::deadline_at) {
                Some(deadline) => command.deadline(deadline),
                None => command,
            }
        });
        commands.collect()
    }
}

#[derive(Clone, Copy)]
enum Round {
    EachTextOnce,
    EveryText,
}

fn missing_scripts<'r>(
    requests: &'r [Request],
    replies: &[Result<Value, CallError>],
) -> Vec<(usize, &'r Invocation)> {
    let is_missing = |reply: &Result<Value, CallError>| matches!(reply, Err(CallError::Replied(error)) if error.code() == "NOSCRIPT");
    let answered = requests.iter().zip(replies).enumerate();
    answered
        .filter_map(|(at, (request, reply))| match request {
            Request::Script(invocation) if is_missing(reply) => Some((at, invocation)),
            _ => None,
        })
        .collect()
}
