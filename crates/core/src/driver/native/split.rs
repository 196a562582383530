//! [`split`]: halves of a stream that has none of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{Source, Wire};

/// Halves of a stream that has none of its own, such as an encrypted one. Both are used by the
/// connection's one task. `close` ends what is below the stream.
pub(super) fn split<S>(stream: S, close: fn(&S)) -> (Source, Box<dyn Wire>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = Arc::new(Mutex::new(stream));
    let write = WriteHalf {
        stream: Arc::clone(&stream),
        close,
    };
    (Box::new(ReadHalf(stream)), Box::new(write))
}

struct ReadHalf<S>(Arc<Mutex<S>>);

struct WriteHalf<S> {
    stream: Arc<Mutex<S>>,
    close: fn(&S),
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadHalf<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Send + Unpin + 'static> Wire for WriteHalf<S> {
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.lock()).poll_write_vectored(cx, slices)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.lock()).poll_flush(cx)
    }

    fn close(&self) {
        (self.close)(&self.stream.lock());
    }
}
