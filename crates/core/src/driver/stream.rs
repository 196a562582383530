//! Byte streams to a server: TCP with the socket options that notice a dead peer, and unix sockets.

use std::io;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::Address;
use crate::error::{Fault, FaultKind};

/// Connects over TCP, trying every address that the name has.
pub(super) async fn connect_tcp(address: &Address) -> Result<TcpStream, Fault> {
    let found = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| {
            let message = format!(
                "host `{}` cannot be resolved: {error}; check `host`",
                address.host
            );
            Fault::new(FaultKind::Connect, message).with_source(error)
        })?;
    let mut last = io::Error::other("the name has no address");
    let mut found = found.peekable();
    while let Some(candidate) = found.next() {
        // The last address has what is left of the connect timeout.
        let limit = if found.peek().is_some() {
            PER_ADDRESS
        } else {
            Duration::MAX
        };
        let connecting = timeout(limit, TcpStream::connect(candidate));
        match connecting
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(stream) => {
                tune(&stream).map_err(|error| {
                    Fault::new(FaultKind::Connect, "cannot set socket options").with_source(error)
                })?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    let message = format!(
        "cannot connect to {address}: {last}; check `host` and `port`, and that the server runs"
    );
    Err(Fault::new(FaultKind::Connect, message).with_source(last))
}

/// How long an address may take while there are others: one that swallows packets must not keep a
/// client from the next.
const PER_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to a unix socket.
#[cfg(unix)]
pub(super) async fn connect_unix(path: &Path) -> Result<tokio::net::UnixStream, Fault> {
    tokio::net::UnixStream::connect(path)
        .await
        .map_err(|error| {
            let message = format!(
                "cannot connect to {}: {error}; check `unix_socket`",
                path.display()
            );
            Fault::new(FaultKind::Connect, message).with_source(error)
        })
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )?;
    // Bytes that the peer's host does not even acknowledge: the kernel ends the connection.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// Long enough for a congested network, short enough that a vanished host is noticed without
/// traffic.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How many bytes the kernel may keep that have not left. With megabytes of them an upload over a slow
/// link shows no progress for seconds, and looks like a server that is silent.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;
