//! [`Watched`]: a fixture's backend that is watched, and interfered with.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use redkit_core::{
    Backend, CallError, Capabilities, Client, Command, ConnectionState, Interest, PushStream,
    Topology, Value,
};
use redkit_testkit::Fixture;
use tokio::sync::watch;

/// What comes before a call, given how often that has happened.
type Before = Box<dyn Fn(u64) -> Command + Send>;

/// A client whose calls are watched.
pub(crate) struct Watched {
    pub(crate) client: Client,
    seen: Arc<Seen>,
}

struct Seen {
    inner: Arc<dyn Backend>,
    /// Commands by name, with the number of items in the reply.
    calls: Mutex<Vec<(String, usize)>>,
    /// The names of those that may be repeated, and of those that may not.
    repeatable: Mutex<[BTreeSet<String>; 2]>,
    before: Mutex<Option<(&'static str, u64, Before)>>,
    connecting: Mutex<Connecting>,
    /// What comes before this connection's first call.
    first: Mutex<Duration>,
}

/// How a connection of one's own is made.
#[derive(Default, Clone, Copy)]
enum Connecting {
    #[default]
    AtOnce,
    /// It takes this long.
    Slowly(Duration),
    /// It takes this long, by the first call, as in a cluster.
    ByTheFirstCall(Duration),
}

impl Watched {
    pub(crate) fn new(fixture: &Fixture) -> Self {
        let seen = Arc::new(Seen::new(fixture.client.backend().clone()));
        // Patient, because what is watched can be large, and the machine busy.
        let patience = Duration::from_secs(30);
        let config = fixture.config().unwrap().command_timeout(patience);
        Self {
            client: Client::from_backend(seen.clone(), &config).unwrap(),
            seen,
        }
    }

    /// Carries out another command before every command of this name.
    pub(crate) fn before(
        &self,
        name: &'static str,
        command: impl Fn(u64) -> Command + Send + 'static,
    ) {
        *self.seen.before.lock().unwrap() = Some((name, 0, Box::new(command)));
    }

    /// From now on it takes so long to make a connection of one's own; in a cluster it is made by
    /// the first call on it.
    pub(crate) fn connects_slowly(&self, time: Duration, like_a_cluster: bool) {
        *self.seen.connecting.lock().unwrap() = match like_a_cluster {
            true => Connecting::ByTheFirstCall(time),
            false => Connecting::Slowly(time),
        };
    }

    /// The names of the commands that may be repeated when no answer came, and of those that may
    /// not.
    pub(crate) fn repeatable(&self) -> [BTreeSet<String>; 2] {
        self.seen.repeatable.lock().unwrap().clone()
    }

    /// The calls since this was last asked: their names, and the numbers of items in their replies.
    pub(crate) fn calls(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.seen.calls.lock().unwrap())
    }
}

/// The items of a reply, however deep they lie.
fn items(value: &Value) -> usize {
    match value {
        Value::Array(items) | Value::Set(items) => items.iter().map(self::items).sum(),
        Value::Map(pairs) => pairs.len() * 2,
        _ => 1,
    }
}

impl Seen {
    fn new(inner: Arc<dyn Backend>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
            repeatable: Mutex::default(),
            before: Mutex::default(),
            connecting: Mutex::default(),
            first: Mutex::default(),
        }
    }
}

#[async_trait]
impl Backend for Seen {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let connecting = std::mem::take(&mut *self.first.lock().unwrap());
        tokio::time::sleep(connecting).await;
        let first = match &mut *self.before.lock().unwrap() {
            Some((name, count, make)) if *name == command.name() => {
                *count += 1;
                Some(make(*count))
            }
            _ => None,
        };
        if let Some(first) = first {
            self.inner.call(&first).await?;
        }
        let kind = usize::from(!command.is_idempotent());
        self.repeatable.lock().unwrap()[kind].insert(command.name().to_owned());
        let reply = self.inner.call(command).await;
        let count = reply.as_ref().map_or(0, items);
        let call = (command.name().to_owned(), count);
        self.calls.lock().unwrap().push(call);
        reply
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.inner.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        self.inner.subscribe(interest).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let connecting = *self.connecting.lock().unwrap();
        if let Connecting::Slowly(time) = connecting {
            tokio::time::sleep(time).await;
        }
        let own = self.inner.dedicated().await?;
        let Connecting::ByTheFirstCall(time) = connecting else {
            return Ok(own);
        };
        let own = Seen::new(own);
        *own.first.lock().unwrap() = time;
        Ok(Arc::new(own))
    }

    fn topology(&self) -> Topology {
        match *self.connecting.lock().unwrap() {
            Connecting::ByTheFirstCall(_) => Topology::Cluster,
            _ => self.inner.topology(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}
