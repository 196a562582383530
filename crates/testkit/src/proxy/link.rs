//! [`Link`]: one client's connection and its way to the server.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::lane::Lane;
use super::{Close, Control, Counters, Cut, Direction, Mode};

/// How long a close in order waits for the other side's end, and a connect for the server.
const PATIENCE: Duration = Duration::from_millis(500);

/// One client's connection.
pub(super) struct Link {
    client: TcpStream,
    upstream: SocketAddr,
    watch: Watch,
    counters: Arc<Counters>,
}

/// Why bytes are carried no longer.
enum End {
    /// Both sides have ended in order.
    Done,
    Close(Close),
    BlackHole,
    LoseServer,
}

impl Link {
    pub(super) fn new(
        client: TcpStream,
        upstream: SocketAddr,
        orders: watch::Receiver<Control>,
        control: Weak<watch::Sender<Control>>,
        counters: Arc<Counters>,
    ) -> Self {
        counters.open.fetch_add(1, Ordering::AcqRel);
        let severed = orders.borrow().severed;
        Self {
            client,
            upstream,
            watch: Watch {
                orders,
                control,
                severed,
            },
            counters,
        }
    }

    /// Runs until the connection is closed.
    pub(super) async fn run(mut self) {
        let _ = self.client.set_nodelay(true);
        let end = match self.wait_to_connect().await {
            Ok(()) => self.connect_and_carry().await,
            Err(end) => (end, None),
        };
        match end {
            (End::Done, _) => {}
            (End::Close(close), server) => {
                close_both(&mut self.client, server, close).await;
            }
            (End::BlackHole, server) => self.swallow(server).await,
            (End::LoseServer, server) => {
                if let Some(server) = server {
                    close_one(server, Close::Fin).await;
                }
                self.keep_from_knowing().await;
            }
        }
    }

    /// Returns when the server may be connected to.
    async fn wait_to_connect(&mut self) -> Result<(), End> {
        loop {
            match self.watch.now().map_err(End::Close)? {
                Mode::BlackHole => return Err(End::BlackHole),
                Mode::HalfOpen { .. } => self.watch.changed().await,
                _ => return Ok(()),
            }
        }
    }

    async fn connect_and_carry(&mut self) -> (End, Option<TcpStream>) {
        let connected = timeout(PATIENCE, TcpStream::connect(self.upstream)).await;
        let Ok(Ok(mut server)) = connected else {
            return (End::Close(Close::Rst), None);
        };
        let _ = server.set_nodelay(true);
        let carried = carry(
            &mut self.client,
            &mut server,
            &mut self.watch,
            &self.counters,
        )
        .await;
        // An error here is a reset by one side, which the other is to see as one.
        (carried.unwrap_or(End::Close(Close::Rst)), Some(server))
    }

    /// Reads everything and answers nothing, until the client has gone.
    async fn swallow(mut self, mut server: Option<TcpStream>) {
        let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            if let Err(close) = self.watch.now() {
                return close_both(&mut self.client, server, close).await;
            }
            let reply = async {
                match &mut server {
                    Some(server) => server.read(&mut from_server).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.watch.changed() => {}
                read = self.client.read(&mut from_client) => if !matches!(read, Ok(1..)) {
                    return;
                },
                read = reply => if !matches!(read, Ok(1..)) {
                    server = None;
                },
            }
        }
    }

    /// The server's side is closed, and the client is not told before the network is whole again.
    async fn keep_from_knowing(mut self) {
        loop {
            match self.watch.now() {
                Err(close) => return close_both(&mut self.client, None, close).await,
                Ok(Mode::HalfOpen { .. }) => self.watch.changed().await,
                Ok(Mode::BlackHole) => return self.swallow(None).await,
                Ok(_) => return close_both(&mut self.client, None, Close::Rst).await,
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The proxy's orders as one link sees them.
struct Watch {
    orders: watch::Receiver<Control>,
    control: Weak<watch::Sender<Control>>,
    /// How often links had been severed when this one was made.
    severed: u64,
}

impl Watch {
    /// The mode; an error when the link is to be closed.
    fn now(&mut self) -> Result<Mode, Close> {
        let control = *self.orders.borrow_and_update();
        if control.severed == self.severed {
            Ok(control.mode)
        } else {
            Err(control.close)
        }
    }

    fn order(&self) -> u64 {
        self.orders.borrow().order
    }

    /// Waits for another order.
    async fn changed(&mut self) {
        if self.orders.changed().await.is_err() {
            // The proxy has ended, and the listener with it ends this task.
            std::future::pending::<()>().await;
        }
    }

    /// Whether this link is the one to be cut: of a cut that happens once, only the first is.
    fn takes(&self, cut: Cut) -> bool {
        if !cut.once {
            return true;
        }
        self.control.upgrade().is_some_and(|control| {
            control.send_if_modified(|control| {
                let first = control.mode == Mode::Cut(cut);
                if first {
                    control.mode = Mode::Pass;
                }
                first
            })
        })
    }
}

/// Carries bytes in both directions until something ends it.
async fn carry(
    client: &mut TcpStream,
    server: &mut TcpStream,
    watch: &mut Watch,
    counters: &Counters,
) -> io::Result<End> {
    let (mut client_reads, mut client_writes) = client.split();
    let (mut server_reads, mut server_writes) = server.split();
    let (mut requests, mut replies) = (
        Lane::new(Direction::ToServer),
        Lane::new(Direction::ToClient),
    );
    let (mut request, mut reply) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut order = watch.order();
    loop {
        // Looked at after every read, so that nothing is treated by a mode older than itself.
        let mode = match watch.now() {
            Ok(mode) => mode,
            Err(close) => return Ok(End::Close(close)),
        };
        if order != watch.order() {
            order = watch.order();
            (requests.passed, replies.passed) = (0, 0);
        }
        match mode {
            Mode::BlackHole => return Ok(End::BlackHole),
            Mode::HalfOpen {
                close_upstream: true,
            } => return Ok(End::LoseServer),
            Mode::HalfOpen { .. } => {
                watch.changed().await;
                continue;
            }
            _ => {}
        }
        if let Some(cut) = requests.is_cut(mode).or(replies.is_cut(mode))
            && watch.takes(cut)
        {
            return Ok(End::Close(cut.close));
        }
        for (lane, writes) in [
            (&mut requests, &mut server_writes),
            (&mut replies, &mut client_writes),
        ] {
            if lane.is_over() {
                lane.told = true;
                writes.shutdown().await?;
            }
        }
        if requests.told && replies.told {
            return Ok(End::Done);
        }
        tokio::select! {
            () = watch.changed() => {}
            read = client_reads.read(&mut request), if requests.reads() => {
                requests.take(&request[..read?], watch.orders.borrow().mode);
            }
            read = server_reads.read(&mut reply), if replies.reads() => {
                replies.take(&reply[..read?], watch.orders.borrow().mode);
            }
            wrote = requests.write_due(&mut server_writes, mode) => {
                requests.wrote(wrote?, counters);
            }
            wrote = replies.write_due(&mut client_writes, mode) => {
                replies.wrote(wrote?, counters);
            }
        }
    }
}

async fn close_both(client: &mut TcpStream, server: Option<TcpStream>, close: Close) {
    let server = async {
        if let Some(server) = server {
            close_one(server, close).await;
        }
    };
    tokio::join!(prepare_close(client, close), server);
}

async fn close_one(mut stream: TcpStream, close: Close) {
    prepare_close(&mut stream, close).await;
}

/// Makes dropping the stream close it like this.
async fn prepare_close(stream: &mut TcpStream, close: Close) {
    // Either fails only when the connection is gone, which is what was wanted.
    match close {
        Close::Rst => {
            let _ = stream.set_zero_linger();
        }
        Close::Fin => {
            let _ = stream.shutdown().await;
            // Dropping a stream with something unread in it would abort it.
            let mut unread = vec![0; 64 * 1024];
            let drain = async { while let Ok(1..) = stream.read(&mut unread).await {} };
            let _ = timeout(PATIENCE, drain).await;
        }
    }
}
