//! Free ports that stay free.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rand::RngExt as _;

/// Below the range from which systems pick the ports of outgoing connections (Linux from 32768,
/// others from 49152): a port picked here is not taken by some test's client while its server
/// restarts.
const CANDIDATES: std::ops::Range<u16> = 12_000..32_000;

/// A listener on a port that nobody else listens on.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..200 {
        let port = rand::rng().random_range(CANDIDATES);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A port that nobody listens on now. Another process may take it before the caller does, so the
/// caller has to be ready to try again.
pub(crate) fn free() -> io::Result<u16> {
    Ok(listen()?.local_addr()?.port())
}
