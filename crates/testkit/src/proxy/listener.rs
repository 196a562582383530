//! [`Listener`]: accepts connections, and stops listening when they are to be refused.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::link::Link;
use super::{Control, Counters, Mode};
use crate::port::Port;

/// The task that owns the port and, through them, all connections.
pub(super) struct Listener {
    /// Nobody else's while connections are refused.
    pub(super) _port: Port,
    pub(super) addr: SocketAddr,
    pub(super) upstream: SocketAddr,
    pub(super) orders: watch::Receiver<Control>,
    pub(super) control: Weak<watch::Sender<Control>>,
    pub(super) counters: Arc<Counters>,
}

impl Listener {
    /// Runs until the proxy ends.
    pub(super) async fn run(mut self, socket: std::net::TcpListener) {
        let mut socket = TcpListener::from_std(socket).ok();
        let mut links = JoinSet::new();
        loop {
            let control = *self.orders.borrow_and_update();
            if control.ended {
                return;
            }
            if control.mode == Mode::Refuse {
                socket = None;
            } else if socket.is_none() {
                socket = TcpListener::bind(self.addr).await.ok();
            }
            let follows = socket.is_some() != (control.mode == Mode::Refuse);
            if follows {
                self.counters.follow(control.order);
            }
            tokio::select! {
                biased;
                changed = self.orders.changed() => if changed.is_err() { return },
                accepted = accept(socket.as_ref()) => if let Ok((client, _)) = accepted {
                    self.counters.accepted.fetch_add(1, Ordering::AcqRel);
                    links.spawn(self.link(client).run());
                },
                // Forgets the links that have ended.
                Some(_) = links.join_next() => {},
                // Another socket was on the port; it is tried again.
                () = tokio::time::sleep(Duration::from_millis(5)), if !follows => {},
            }
        }
    }

    fn link(&self, client: TcpStream) -> Link {
        Link::new(
            client,
            self.upstream,
            self.orders.clone(),
            self.control.clone(),
            Arc::clone(&self.counters),
        )
    }
}

async fn accept(socket: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}
