//! Ports for servers and proxies. A port belongs to one [`Port`] from its choice to its end, across
//! all test programs of this machine: a server that is killed and started again finds it free.
//!
//! Two things once took ports away between their choice and the server's `bind`. A port was tried out
//! by listening on it, and a child that another thread forked at this moment kept that listener open
//! until its `exec`, on a busy machine for long; and the other test programs chose from the same
//! ports. Now a port is tried out without listening, which keeps no server from it, and each program
//! locks a block of ports of its own.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use parking_lot::Mutex;
use rand::RngExt as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Below the range from which systems pick the ports of outgoing connections (Linux from 32768,
/// others from 49152): a port picked here is not taken by some test's client while its server
/// restarts.
const CANDIDATES: std::ops::Range<u16> = 12_000..32_000;

/// Ports of one block. A program takes another block when it needs more.
const BLOCK: u16 = 100;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    blocks: Vec::new(),
    in_use: BTreeSet::new(),
    next: 0,
});

/// A port that no other test uses until this is dropped.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Chooses a port that nobody listens on. A program that is no test may still take it before the
    /// caller does.
    pub(crate) fn choose() -> io::Result<Self> {
        POOL.lock().choose().map(Self)
    }

    /// Chooses a port and listens on it.
    pub(crate) fn listen() -> io::Result<(Self, TcpListener)> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..5 {
            let port = Self::choose()?;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())) {
                Ok(listener) => return Ok((port, listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        POOL.lock().in_use.remove(&self.0);
    }
}

/// The ports of this program.
struct Pool {
    blocks: Vec<Block>,
    in_use: BTreeSet<u16>,
    /// How many ports were chosen so far: a port rests for as long as possible after its use.
    next: usize,
}

/// Ports that are this program's until it ends, however it ends: the system releases the lock.
struct Block {
    first: u16,
    _lock: File,
}

impl Pool {
    fn choose(&mut self) -> io::Result<u16> {
        loop {
            let ports = self.blocks.len() * usize::from(BLOCK);
            for _ in 0..ports {
                let index = self.next % ports;
                self.next = self.next.wrapping_add(1);
                let port = self.port(index);
                if !self.in_use.contains(&port) && is_free(port) {
                    self.in_use.insert(port);
                    return Ok(port);
                }
            }
            let block = Block::take()?;
            self.blocks.push(block);
        }
    }

    fn port(&self, index: usize) -> u16 {
        let (block, offset) = (index / usize::from(BLOCK), index % usize::from(BLOCK));
        let first = self
            .blocks
            .get(block)
            .map_or(CANDIDATES.start, |block| block.first);
        first + u16::try_from(offset).unwrap_or_default()
    }
}

impl Block {
    /// Locks a block that no test program has.
    fn take() -> io::Result<Self> {
        // Per user: the files of another one cannot be opened.
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("redkit-test-ports-{user}"));
        std::fs::create_dir_all(&folder)?;
        let blocks = (CANDIDATES.end - CANDIDATES.start) / BLOCK;
        let start = rand::rng().random_range(0..blocks);
        for number in 0..blocks {
            let first = CANDIDATES.start + (start + number) % blocks * BLOCK;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(first.to_string()))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { first, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!(
                "all {blocks} blocks of ports are in use by other tests; see {}",
                folder.display()
            ),
        ))
    }
}

/// Whether nobody listens on the port. The socket that finds out is bound as servers bind theirs, and
/// never listens, so that it is in nobody's way, not even in a child that holds a copy of it.
fn is_free(port: u16) -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let bound = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .and_then(|socket| {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)
    });
    bound.is_ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_port_has_one_user_and_is_free_until_it_is_used() {
        let ports: Vec<_> = (0..250).map(|_| Port::choose().unwrap()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0].number())).unwrap();
        assert!(!is_free(ports[0].number()));
        drop(taken);
    }

    /// A listener that tries a port out is copied into children that are forked meanwhile, and keeps
    /// the port until they `exec`.
    #[test]
    fn a_chosen_port_can_be_bound_while_children_are_started() {
        let done = AtomicBool::new(false);
        let taken = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let mut sh = Command::new("sh");
                        let sh = sh.args(["-c", ":"]).stdin(Stdio::piped()).spawn();
                        sh.unwrap().wait().unwrap();
                    }
                });
            }
            let is_taken = |_: &u32| {
                let port = Port::choose().unwrap();
                TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).is_err()
            };
            let taken = (0..2000).filter(is_taken).count();
            done.store(true, Ordering::Relaxed);
            taken
        });
        assert_eq!(taken, 0);
    }

    #[test]
    fn a_block_has_one_owner() {
        let (one, other) = (Block::take().unwrap(), Block::take().unwrap());
        assert_ne!(one.first, other.first);
    }
}
