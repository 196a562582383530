//! A backend on one server: the one configured, or the one that sentinels name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::dedicated::Dedicated;
use super::hello::Role;
use super::link::{CommandLink, Connector, Limits, Link, ServerConnector, Timing};
use super::sentinel::Route;
use super::supervisor::Supervisor;
use crate::backend::{Backend, Capabilities, ConnectionState, ServerNode, Topology};
use crate::breaker::{Breakers, Permit};
use crate::command::Command;
use crate::config::ClientConfig;
use crate::error::{CallError, Error, ServerError};
use crate::push::{Interest, PushStream};
use crate::value::Value;

/// How a driver subscribes.
#[async_trait]
pub(super) trait Subscriber: Send + Sync + 'static {
    /// Subscribes, and waits until the server has confirmed it, but not beyond `deadline`.
    async fn subscribe(
        &self,
        interest: Interest,
        deadline: Instant,
    ) -> Result<PushStream, CallError>;

    /// Ends every subscription.
    fn shutdown(&self);
}

/// A backend on one server.
pub(super) struct OneServer<C: Connector, S> {
    supervisor: Supervisor<C::Link>,
    breakers: Breakers,
    subscriptions: S,
    route: Route<C>,
    limits: Limits,
    demotions: Demotions,
}

impl<C: ServerConnector, S: Subscriber> OneServer<C, S> {
    /// Connects, or prepares to when the configuration is lazy.
    pub(super) async fn start(
        route: Route<C>,
        config: &ClientConfig,
        subscriptions: impl FnOnce(Route<C>, Timing) -> S,
    ) -> Result<Self, Error> {
        let timing = Timing::of(config);
        let breakers = Breakers::new(config.label(), config.breaker.clone())?;
        let breaker = breakers.node(&route.target());
        let supervisor = Supervisor::start(route.clone(), timing, config.lazy, breaker);
        if !config.lazy {
            supervisor
                .first_attempt()
                .await
                .map_err(|fault| Error::call("CONNECT", fault.not_sent()))?;
        }
        Ok(Self {
            subscriptions: subscriptions(route.clone(), timing),
            supervisor,
            breakers,
            route,
            limits: Limits::of(config),
            demotions: Demotions::default(),
        })
    }

    /// The live connection; waits for one no longer than a command may take.
    #[cfg(feature = "fred")]
    pub(super) async fn link(&self) -> Result<Arc<C::Link>, CallError> {
        let deadline = Instant::now() + self.limits.command;
        self.supervisor.link(deadline).await
    }

    /// Whether the server at the other end turns out to be no master any more, and another may be found in its place.
    fn is_demoted<T>(
        &self,
        link: &C::Link,
        command: &Command,
        reply: &Result<T, CallError>,
    ) -> bool {
        if !is_untouched(command, reply) {
            return false;
        }
        // Sentinels name another. A name, or a proxy, may lead to another, sooner or later.
        self.route.topology() == Topology::Sentinel || self.demotions.is_worth_leaving(link.role())
    }

    async fn carry(&self, command: &Command, permit: &Permit) -> Result<Value, CallError> {
        let deadline = self.limits.deadline(command);
        loop {
            let link = self.supervisor.link(deadline).await?;
            self.demotions.saw(link.role());
            let sent = link.exchange(command, deadline);
            let reply = self.supervisor.answer(&link, permit, sent).await;
            if !self.is_demoted(&link, command, &reply) {
                return reply;
            }
            // The next connection is to another master, or to one that is named soon.
            link.close();
            if Instant::now() + DEMOTED >= deadline {
                return reply;
            }
            sleep(DEMOTED).await;
        }
    }

    async fn carry_all(
        &self,
        commands: &[Command],
        permit: &Permit,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        loop {
            let link = self.supervisor.link(deadline).await?;
            self.demotions.saw(link.role());
            let sent = link.exchange_all(commands, deadline);
            let replies = self.supervisor.answer(&link, permit, sent).await?;
            let mut all = commands.iter().zip(&replies);
            if !all.any(|(command, reply)| self.is_demoted(&link, command, reply)) {
                return Ok(replies);
            }
            link.close();
            // What was answered must not be sent twice, and what was not must not overtake.
            if !are_untouched(commands, &replies) || Instant::now() + DEMOTED >= deadline {
                return Ok(replies);
            }
            sleep(DEMOTED).await;
        }
    }
}

/// Whether a command was refused by a server that takes no writes, and has changed nothing.
fn is_untouched<T>(command: &Command, reply: &Result<T, CallError>) -> bool {
    let refusal = reply.as_ref().err().and_then(CallError::server_error);
    refusal.is_some_and(|error| error.code() == "READONLY" && is_own(command, error))
}

/// Whether a command may be sent again after an error that says that nothing was carried out.
#[cfg(feature = "native")]
pub(super) fn is_certain(command: &Command, error: &ServerError) -> bool {
    command.is_idempotent() || is_own(command, error)
}

/// Whether an error is the server's own. A script may make up any, also after it has written; but
/// on a server that takes no writes its first one ends it, in the server's words.
pub(super) fn is_own(command: &Command, error: &ServerError) -> bool {
    const WORDS: [&str; 7] = [
        "You can't write against a read only",
        "You can not run script",
        "Hash slot not served",
        "The cluster is down",
        "Multiple keys request during rehashing",
        "is loading the dataset in memory",
        "Link with MASTER is down",
    ];
    let is_in_its_words = || WORDS.iter().any(|words| error.message().contains(words));
    !command.runs_script() || is_in_its_words()
}

/// The same for all of a pipeline, or for a transaction that is all of it.
fn are_untouched(commands: &[Command], replies: &[Result<Value, CallError>]) -> bool {
    let mut all = commands.iter().zip(replies);
    if all.all(|(command, reply)| is_untouched(command, reply)) {
        return true;
    }
    let is = |command: &Command, name: &str| command.name().eq_ignore_ascii_case(name);
    let multis = commands.iter().filter(|command| is(command, "MULTI"));
    let is_aborted = |reply: &Result<Value, CallError>| {
        let refusal = reply.as_ref().err().and_then(CallError::server_error);
        refusal.is_some_and(|error| error.code() == "EXECABORT")
    };
    // Before it or after it there must be nothing, which may have been carried out.
    multis.count() == 1
        && commands.first().is_some_and(|command| is(command, "MULTI"))
        && commands.last().is_some_and(|command| is(command, "EXEC"))
        && matches!(replies.first(), Some(Ok(Value::Ok)))
        && replies.last().is_some_and(is_aborted)
}

/// What is known of masters that were demoted behind one name.
#[derive(Default)]
struct Demotions {
    /// A master was found there. A client that was given a replica is to stay there.
    had_master: AtomicBool,
    /// When a connection to a replica may be left again, and the pause after that.
    next: Mutex<Option<(Instant, Duration)>>,
}

impl Demotions {
    /// The server at the other end said that it is `role`.
    fn saw(&self, role: Role) {
        if role == Role::Master && !self.had_master.load(Ordering::Relaxed) {
            self.had_master.store(true, Ordering::Relaxed);
        }
    }

    /// Whether to connect anew after a server that said it was `role` has refused a write as replicas do. The name may
    /// lead to the old master for a while yet: a replica then, which is left ever more seldom, because that cuts what
    /// is under way.
    fn is_worth_leaving(&self, role: Role) -> bool {
        if !self.had_master.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        let mut next = self.next.lock();
        let pause = match (role, *next) {
            (Role::Master, _) | (_, None) => LEAST_PAUSE,
            (_, Some((at, _))) if now < at => return false,
            // That demotion is long over: this is another.
            (_, Some((at, _))) if now > at + MOST_PAUSE => LEAST_PAUSE,
            (_, Some((_, pause))) => (pause * 2).min(MOST_PAUSE),
        };
        *next = Some((now + pause, pause));
        true
    }
}

/// How soon after a demotion a replica behind the master's name is left, in the hope of the new master.
const LEAST_PAUSE: Duration = Duration::from_millis(500);

/// How often that is tried at last.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// How long to wait before the sentinels are asked again.
const DEMOTED: Duration = Duration::from_millis(20);

#[async_trait]
impl<C: ServerConnector, S: Subscriber> Backend for OneServer<C, S> {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let permit = self.supervisor.permit()?;
        let reply = self.carry(command, &permit).await;
        self.supervisor
            .settle(permit, &reply, |breaker| breaker.judge(command, &reply));
        reply
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(deadline) = self.limits.latest(commands) else {
            return Ok(Vec::new());
        };
        let permit = self.supervisor.permit()?;
        let replies = self.carry_all(commands, &permit, deadline).await;
        self.supervisor
            .settle(permit, &replies, |breaker| match &replies {
                Ok(replies) => breaker.judge_all(commands, replies),
                Err(error) => breaker.classify(error),
            });
        replies
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.subscriptions
            .subscribe(interest, self.limits.subscribed())
            .await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let topology = self.route.topology();
        let own = Dedicated::open(self.route.clone(), self.limits, topology).await?;
        Ok(Arc::new(own))
    }

    fn topology(&self) -> Topology {
        self.route.topology()
    }

    fn capabilities(&self) -> Capabilities {
        self.supervisor.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.supervisor.state()
    }

    fn breakers(&self) -> Option<Breakers> {
        Some(self.breakers.clone())
    }

    fn servers(&self) -> Vec<ServerNode> {
        vec![ServerNode::alone(&self.route.target())]
    }

    async fn call_on(&self, _: &str, command: &Command) -> Result<Value, CallError> {
        let deadline = self.limits.deadline(command);
        let link = self.supervisor.link(deadline).await?;
        let sent = link.exchange(command, deadline);
        self.supervisor.answer_past_breaker(&link, sent).await
    }

    async fn check_quorum(&self, limit: Duration) -> Vec<(Box<str>, Result<Value, CallError>)> {
        self.route.check_quorum(limit).await
    }

    async fn shutdown(&self) {
        self.subscriptions.shutdown();
        self.supervisor.shutdown();
        self.route.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServerError;

    #[tokio::test(start_paused = true)]
    async fn a_demoted_master_is_left_at_once_and_the_replica_behind_its_name_ever_more_seldom() {
        let demotions = Demotions::default();
        demotions.saw(Role::Replica);
        assert!(
            !demotions.is_worth_leaving(Role::Replica),
            "the client was given a replica"
        );
        demotions.saw(Role::Master);
        assert!(demotions.is_worth_leaving(Role::Master));
        let start = Instant::now();
        let mut left = Vec::new();
        while start.elapsed() < Duration::from_secs(100) {
            if demotions.is_worth_leaving(Role::Replica) {
                left.push(start.elapsed().as_millis());
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(
            left,
            [500, 1500, 3500, 7500, 15_500, 31_500, 61_500, 91_500]
        );
        assert!(
            demotions.is_worth_leaving(Role::Master),
            "the next master is demoted, too"
        );
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(25)).await;
            demotions.is_worth_leaving(Role::Replica);
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(demotions.is_worth_leaving(Role::Replica));
        tokio::time::advance(LEAST_PAUSE).await;
        assert!(
            demotions.is_worth_leaving(Role::Replica),
            "an earlier demotion slows the client down"
        );
    }

    fn refused(code: &str) -> Result<Value, CallError> {
        Err(CallError::Replied(ServerError::new(code, "by the server")))
    }

    #[test]
    fn a_batch_is_sent_again_only_when_nothing_of_it_was_carried_out() {
        let commands = |names: &[&str]| names.iter().map(|n| Command::new(n)).collect::<Vec<_>>();
        let queued = || Ok(Value::status("QUEUED"));
        let transaction = commands(&["MULTI", "INCR", "EXEC"]);
        let aborted = [Ok(Value::Ok), refused("READONLY"), refused("EXECABORT")];
        assert!(are_untouched(&transaction, &aborted));
        assert!(!are_untouched(
            &transaction,
            &[Ok(Value::Ok), queued(), Ok(Value::Array(vec![]))]
        ));
        // A write before the transaction was carried out.
        let mixed = commands(&["SET", "MULTI", "INCR", "EXEC"]);
        let [multi, incr, exec] = aborted;
        assert!(!are_untouched(&mixed, &[Ok(Value::Ok), multi, incr, exec]));
    }
}
