//! The engine on a port, for looking in: `redis-cli`, a viewer, or a service in another language.

mod connection;
mod reply;
mod request;
mod subscriptions;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::ConnectionState;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{Embedded, Shared};

/// How many connections there are at once; a further one is told so and closed.
const MOST_CONNECTIONS: usize = 1_000;

/// The pause after a connection could not be accepted, as when the process has no file handle left.
const PAUSE: Duration = Duration::from_millis(50);

impl Embedded {
    /// Serves the engine's data on a loopback address: RESP2, and RESP3 after `HELLO 3`, to as many as a
    /// thousand connections. Port 0 takes a free one. It ends when the [`Listener`] is dropped.
    ///
    /// It is for looking in while a program runs, and no server for production: there is no password, no
    /// encryption and no persistence, and one lock for all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), redkit_embedded::ListenError> {
    /// let engine = redkit_embedded::Embedded::new();
    /// let listener = engine.listen(([127, 0, 0, 1], 0).into()).await?;
    /// println!("redis-cli -p {}", listener.addr().port());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ListenError::NotLoopback`] for an address that other machines reach, and [`ListenError::Bind`] when
    /// it cannot be had.
    pub async fn listen(&self, addr: SocketAddr) -> Result<Listener, ListenError> {
        match addr.ip().is_loopback() {
            true => self.listen_publicly(addr).await,
            false => Err(ListenError::NotLoopback(addr)),
        }
    }

    /// [`listen`](Self::listen) on any address. **Whoever reaches it reads and changes everything**: there is
    /// no password.
    ///
    /// # Errors
    /// [`ListenError::Bind`] when the address cannot be had.
    pub async fn listen_publicly(&self, addr: SocketAddr) -> Result<Listener, ListenError> {
        let bind = |error| ListenError::Bind(addr, error);
        let socket = TcpListener::bind(addr).await.map_err(bind)?;
        let addr = socket.local_addr().map_err(bind)?;
        let task = tokio::spawn(accept(socket, Arc::clone(self.shared())));
        Ok(Listener {
            addr,
            task: AbortOnDropHandle::new(task),
        })
    }
}

/// An engine on a port. Dropping it closes the port and all its connections; the data stay with the engine.
#[must_use = "the port is closed when this is dropped"]
pub struct Listener {
    addr: SocketAddr,
    task: AbortOnDropHandle<()>,
}

impl Listener {
    /// The address, with the port that was chosen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until nothing is accepted any more, which is when the engine was shut down.
    pub async fn ended(&mut self) {
        // A panic was logged by the task's runtime; either way it has ended.
        let _ = (&mut self.task).await;
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Why an engine does not listen.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// Other machines reach the address, and there is no password: take a loopback address, or say that it is
    /// meant by [`Embedded::listen_publicly`].
    NotLoopback(SocketAddr),
    /// The address cannot be had: another program has the port, or the machine does not have the address.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::NotLoopback(addr) => write!(
                f,
                "other machines reach {addr}, and there is no password: choose an address like 127.0.0.1:6379, \
                 or say that it is meant by `listen_publicly`"
            ),
            ListenError::Bind(addr, error) => write!(f, "cannot listen on {addr}: {error}"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListenError::NotLoopback(_) => None,
            ListenError::Bind(_, error) => Some(error),
        }
    }
}

/// Accepts connections until the engine is shut down. The connections are this task's: they end with it.
async fn accept(socket: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut state = shared.state();
    let ended = async move {
        let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed));
        drop(closed.await);
    };
    let mut ended = pin!(ended);
    loop {
        tokio::select! {
            biased;
            () = &mut ended => return,
            Some(ended) = connections.join_next() => note(ended),
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => start(&mut connections, stream, &shared),
                Err(error) => {
                    tracing::warn!(target: "redkit::embedded", %error, "a connection was not accepted");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

fn start(connections: &mut JoinSet<()>, stream: TcpStream, shared: &Arc<Shared>) {
    if connections.len() >= MOST_CONNECTIONS {
        // What does not fit into the socket's buffer of a new connection is not worth a wait.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    let Ok(session) = shared.dedicated_session() else {
        return;
    };
    connections.spawn(connection::serve(stream, session));
}

fn note(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!(target: "redkit::embedded", "a connection's task panicked");
    }
}
