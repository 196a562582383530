//! [`Proxy`]: a TCP proxy that injects faults.

mod lane;
mod link;
mod listener;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::net::ToSocketAddrs;
use tokio::sync::watch;

use crate::Error;
use crate::port::Port;

/// How long a method waits for the proxy's thread.
const PATIENCE: Duration = Duration::from_secs(30);

/// A direction through a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// In order (FIN): the other side reads an end.
    Fin,
    /// Aborted (RST): the other side gets an error, and loses what it has not read.
    Rst,
}

/// A TCP proxy before a server, for tests that break the connection. It starts by passing
/// everything on; each of its methods changes what happens to the connections from then on, the
/// open ones too.
///
/// It runs on a thread of its own, so that neither a test's paused clock nor a busy runtime changes
/// its timing. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    control: Arc<watch::Sender<Control>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`.
    ///
    /// # Errors
    /// [`Error::Io`] when the address does not resolve or no port is free.
    pub async fn start(upstream: impl ToSocketAddrs) -> Result<Self, Error> {
        let upstream = tokio::net::lookup_host(upstream)
            .await
            .and_then(|mut found| {
                found
                    .next()
                    .ok_or_else(|| io::Error::other("it has no address"))
            })
            .map_err(Error::io("resolving a proxy's upstream"))?;
        Self::start_before(upstream).map_err(Error::io("starting a proxy"))
    }

    fn start_before(upstream: SocketAddr) -> io::Result<Self> {
        let (port, socket) = Port::listen()?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let (control, orders) = watch::channel(Control::default());
        let control = Arc::new(control);
        let counters = Arc::new(Counters::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = listener::Listener {
            _port: port,
            addr,
            upstream,
            orders,
            // Weak: the thread ends when the proxy's own handle is gone.
            control: Arc::downgrade(&control),
            counters: Arc::clone(&counters),
        };
        let thread = std::thread::Builder::new()
            .name("fault proxy".to_owned())
            .spawn(move || runtime.block_on(listener.run(socket)))?;
        Ok(Self {
            addr,
            control,
            counters,
            thread: Some(thread),
        })
    }

    /// The address to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Passes everything on.
    ///
    /// Connections that lost bytes to [`Proxy::black_hole`] stay silent, as a stream with a hole in
    /// it would be worse than none; those whose server side was closed by
    /// [`Proxy::half_open_without_server`] are reset.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Passes everything on, later by these times. Throughput stays as it is.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.set(Mode::Delay {
            to_server,
            to_client,
        });
    }

    /// Accepts connections and reads what clients send, and throws all of it away, in both
    /// directions.
    pub fn black_hole(&self) {
        self.set(Mode::BlackHole);
    }

    /// Keeps all sockets open, accepts new ones, and neither reads nor writes. Nothing is lost:
    /// [`Proxy::pass`] goes on where it stopped.
    pub fn half_open(&self) {
        self.set(Mode::HalfOpen {
            close_upstream: false,
        });
    }

    /// Like [`Proxy::half_open`], and the server sees its connections closed, while clients are
    /// not told.
    pub fn half_open_without_server(&self) {
        self.set(Mode::HalfOpen {
            close_upstream: true,
        });
    }

    /// Passes everything on until `bytes` have gone in this direction on a connection, counted
    /// from now or from its beginning, and then closes this connection. Zero closes it in place of
    /// the first byte: with [`Direction::ToClient`] a request is carried out and its reply lost.
    pub fn cut_after(&self, direction: Direction, bytes: u64, close: Close) {
        self.set(Mode::Cut(Cut {
            direction,
            bytes,
            close,
            once: false,
        }));
    }

    /// [`Proxy::cut_after`] for the first connection that gets there; from then on it passes.
    pub fn cut_once(&self, direction: Direction, bytes: u64, close: Close) {
        self.set(Mode::Cut(Cut {
            direction,
            bytes,
            close,
            once: true,
        }));
    }

    /// Refuses new connections (nobody listens) and passes everything on for the open ones. It
    /// holds when this returns, and the other modes listen again when they return.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    /// Closes all open connections, on both sides. The mode stays.
    pub fn sever(&self, close: Close) {
        self.control.send_modify(|control| {
            control.severed += 1;
            control.close = close;
        });
    }

    /// How many connections of clients are open.
    pub fn open_connections(&self) -> u64 {
        self.counters.open.load(Ordering::Acquire)
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::Acquire)
    }

    /// How many bytes were passed on so far. Who has just received some may be ahead of the count.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.counters.passed(direction).load(Ordering::Acquire)
    }

    fn set(&self, mode: Mode) {
        let mut order = 0;
        self.control.send_modify(|control| {
            control.order += 1;
            order = control.order;
            control.mode = mode;
        });
        self.counters.await_order(order, PATIENCE);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.send_modify(|control| control.ended = true);
        if let Some(thread) = self.thread.take() {
            // It panics only by a mistake in this module, and dropping is no place to say so.
            let _ = thread.join();
        }
    }
}

/// What the proxy's thread is to do. Everything is a state, so that nothing is missed by who looks
/// late.
#[derive(Debug, Clone, Copy)]
struct Control {
    mode: Mode,
    /// Counts the modes that were set.
    order: u64,
    /// Counts the calls of [`Proxy::sever`].
    severed: u64,
    /// How the last of them wanted it.
    close: Close,
    ended: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            mode: Mode::Pass,
            order: 0,
            severed: 0,
            close: Close::Fin,
            ended: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Delay {
        to_server: Duration,
        to_client: Duration,
    },
    BlackHole,
    HalfOpen {
        close_upstream: bool,
    },
    Cut(Cut),
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    direction: Direction,
    bytes: u64,
    close: Close,
    once: bool,
}

/// What the proxy's thread tells.
#[derive(Debug, Default)]
struct Counters {
    open: AtomicU64,
    accepted: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// The last order that the listener follows.
    followed: Mutex<u64>,
    follows: Condvar,
}

impl Counters {
    fn passed(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn follow(&self, order: u64) {
        *self.followed.lock() = order;
        self.follows.notify_all();
    }

    fn await_order(&self, order: u64, patience: Duration) {
        let mut followed = self.followed.lock();
        // It takes microseconds; the bound is for a port that another process took meanwhile.
        self.follows
            .wait_while_for(&mut followed, |followed| *followed < order, patience);
        assert!(
            *followed >= order,
            "the proxy does not follow its order within {patience:?}: its port may be another process's"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_followed_ends_the_wait() {
        let counters = Counters::default();
        counters.follow(2);
        counters.await_order(2, PATIENCE);
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn an_order_that_nobody_follows_is_no_success() {
        Counters::default().await_order(1, Duration::from_millis(1));
    }
}
