//! The engines behind `embedded://`: one for each client, or by `embedded://name` one that several
//! clients share.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Capabilities, Command, ConnectionState, Fault, FaultKind, Interest,
    PushCloser, PushStream, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;

/// The engines that have names. An engine lives as long as a client that uses it.
static ENGINES: Mutex<BTreeMap<String, Weak<Embedded>>> = Mutex::new(BTreeMap::new());

/// The engine for a client of `embedded://` or `embedded://name`.
pub(crate) fn engine(name: Option<&str>) -> Arc<dyn Backend> {
    let Some(name) = name else {
        return Arc::new(Embedded::new());
    };
    let mut engines = ENGINES.lock();
    let engine = engines.get(name).and_then(Weak::upgrade);
    let engine = engine.unwrap_or_else(|| {
        engines.retain(|_, engine| engine.strong_count() > 0);
        let engine = Arc::new(Embedded::new());
        engines.insert(name.to_owned(), Arc::downgrade(&engine));
        engine
    });
    Arc::new(Shared::new(engine))
}

/// One client's share of an engine. Shutting it down ends the calls, subscriptions and dedicated
/// sessions of this client; the other clients keep theirs.
struct Shared {
    state: watch::Sender<ConnectionState>,
    capabilities: Capabilities,
    open: Mutex<Option<Open>>,
}

struct Open {
    engine: Arc<Embedded>,
    dedicated: Vec<Weak<dyn Backend>>,
    subscriptions: Vec<PushCloser>,
}

impl Shared {
    fn new(engine: Arc<Embedded>) -> Self {
        Self {
            state: watch::Sender::new(ConnectionState::Connected(1)),
            capabilities: engine.capabilities(),
            open: Mutex::new(Some(Open {
                engine,
                dedicated: Vec::new(),
                subscriptions: Vec::new(),
            })),
        }
    }

    fn engine(&self) -> Result<Arc<Embedded>, CallError> {
        self.with_open(|open| Arc::clone(&open.engine))
    }

    fn with_open<R>(&self, action: impl FnOnce(&mut Open) -> R) -> Result<R, CallError> {
        let mut open = self.open.lock();
        let shut_down = || Fault::new(FaultKind::Shutdown, "the client was shut down").not_sent();
        open.as_mut().map(action).ok_or_else(shut_down)
    }
}

#[async_trait]
impl Backend for Shared {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        self.engine()?.call(command).await
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.engine()?.pipeline(commands).await
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        let stream = self.engine()?.subscribe(interest).await?;
        // When the client was shut down meanwhile, the stream is dropped, which ends it.
        self.with_open(|open| {
            open.subscriptions.retain(|stream| !stream.is_closed());
            open.subscriptions.push(stream.closer());
        })?;
        Ok(stream)
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let session = self.engine()?.dedicated().await?;
        self.with_open(|open| {
            open.dedicated.retain(|session| session.strong_count() > 0);
            open.dedicated.push(Arc::downgrade(&session));
        })?;
        Ok(session)
    }

    fn topology(&self) -> Topology {
        Topology::Embedded
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    async fn shutdown(&self) {
        let open = self.open.lock().take();
        self.state.send_replace(ConnectionState::Closed);
        let Some(open) = open else {
            return;
        };
        for stream in &open.subscriptions {
            stream.close();
        }
        for session in open.dedicated.iter().filter_map(Weak::upgrade) {
            session.shutdown().await;
        }
    }
}
