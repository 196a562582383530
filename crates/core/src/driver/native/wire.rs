//! [`Wire`]: the writing half of a socket, as a connection needs it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::net::tcp::OwnedWriteHalf as TcpWrite;
#[cfg(unix)]
use tokio::net::unix::OwnedWriteHalf as UnixWrite;

/// Where bytes are read from.
pub(super) type Source = Box<dyn AsyncRead + Send + Unpin>;

/// The writing half of a socket. It never waits.
pub(super) trait Wire: Send + Sync + 'static {
    /// Gives bytes to the socket, for a caller who is not its task. [`io::ErrorKind::WouldBlock`]
    /// when it takes none now, or only from its task.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Gives bytes to the socket; when it takes none, the task is woken once it does.
    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sees to it that what was given leaves.
    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the server now that nothing more comes. The socket is closed when the last of its owners is dropped, which may be
    /// a task that has yet to run, and a server that waits for an item would hand it over until then.
    fn close(&self);
}

/// Ends both directions of a socket. One that has ended already is no mistake.
pub(super) fn close_socket<'s>(socket: impl Into<SockRef<'s>>) {
    let _ended = socket.into().shutdown(Shutdown::Both);
}

macro_rules! wire_of_a_socket {
    ($half:ty) => {
        impl Wire for $half {
            fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                match slices {
                    [one] => <$half>::try_write(self, one),
                    many => self.try_write_vectored(many),
                }
            }

            fn poll_write(
                &self,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                loop {
                    match Wire::try_write(self, slices) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return Poll::Ready(done),
                    }
                    ready!(self.as_ref().poll_write_ready(cx))?;
                }
            }

            fn close(&self) {
                close_socket(self.as_ref());
            }
        }
    };
}
wire_of_a_socket!(TcpWrite);
#[cfg(unix)]
wire_of_a_socket!(UnixWrite);
