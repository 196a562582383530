//! One connection: reads requests, runs them in order, writes the replies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::reply::{write_error, write_reply, write_value};
use super::request::{Parser, ProtocolError, Request};
use super::subscriptions::{Change, Subscriptions};
use crate::backend::Dedicated;
use crate::engine::Outcome;
use crate::error::{self, Reply};
use crate::state::Protocol;
use redkit_core::{CallError, Value};

/// How long a client may take to read before its connection is closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is read at once, how much may be read ahead of a command that waits, and when replies are
/// written though there are more requests.
const PIECE: usize = 16 * 1024;
const AHEAD: usize = 1024 * 1024;
const MOST_REPLIES: usize = 256 * 1024;

/// Serves a connection until it ends.
pub(super) async fn serve(mut stream: TcpStream, session: Arc<Dedicated>) {
    // Replies are written as a whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.split();
    let mut connection = Connection {
        subscriptions: Subscriptions::new(session.shared()),
        session,
        reader,
        writer,
        parser: Parser::default(),
        buffer: BytesMut::with_capacity(PIECE),
        out: Vec::new(),
    };
    // A client that goes away is no fault.
    let _ = connection.run().await;
}

struct Connection<'s> {
    session: Arc<Dedicated>,
    subscriptions: Subscriptions,
    reader: ReadHalf<'s>,
    writer: WriteHalf<'s>,
    parser: Parser,
    buffer: BytesMut,
    out: Vec<u8>,
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            if self.answer_all().await? == Next::Close {
                return self.flush().await;
            }
            self.flush().await?;
            let protocol = self.session.protocol();
            tokio::select! {
                () = self.session.closed() => return Ok(()),
                read = self.reader.read_buf(&mut self.buffer) => if read? == 0 {
                    return Ok(());
                },
                () = self.subscriptions.next(&mut self.out, protocol) => {}
            }
        }
    }

    /// Answers the requests that are there.
    async fn answer_all(&mut self) -> io::Result<Next> {
        loop {
            let (request, length) = match self.parser.next(&self.buffer) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.buffer.reserve(PIECE);
                    return Ok(Next::GoOn);
                }
                Err(ProtocolError(problem)) => {
                    write_error(
                        &mut self.out,
                        &error::err(format!("Protocol error: {problem}")),
                    );
                    return Ok(Next::Close);
                }
            };
            // The arguments lie in the part that is split off.
            let bytes = self.buffer.split_to(length);
            let argv: SmallVec<[&[u8]; 8]> = match &request {
                Request::Array(args) => args
                    .iter()
                    .filter_map(|arg| bytes.get(arg.clone()))
                    .collect(),
                Request::Inline(words) => words.iter().map(Vec::as_slice).collect(),
            };
            if !argv.is_empty() && self.answer(&argv).await? == Next::Close {
                return Ok(Next::Close);
            }
            if self.out.len() > MOST_REPLIES {
                self.flush().await?;
                tokio::task::consume_budget().await;
            }
        }
    }

    async fn answer(&mut self, argv: &[&[u8]]) -> io::Result<Next> {
        let (name, args) = argv
            .split_first()
            .map_or((&b""[..], argv), |(name, args)| (*name, args));
        let protocol = self.session.protocol();
        if let Some(change) = Change::of(name) {
            self.subscribe(change, args, protocol).await;
            return Ok(Next::GoOn);
        }
        let is = |word: &str| word.as_bytes().eq_ignore_ascii_case(name);
        if protocol == Protocol::Resp2 && self.subscriptions.is_any() {
            match name {
                _ if is("PING") => {
                    let message = args.first().copied().unwrap_or_default().to_vec();
                    let pong = Value::Array(vec![Value::bulk("pong"), Value::bulk(message)]);
                    write_value(&mut self.out, &pong, protocol);
                    return Ok(Next::GoOn);
                }
                _ if is("QUIT") || is("RESET") => {}
                _ => {
                    write_error(&mut self.out, &subscribed(name));
                    return Ok(Next::GoOn);
                }
            }
        }
        if is("RESET") {
            self.subscriptions.clear();
        }
        let reply = match self.session.execute(argv) {
            Ok(Outcome::Done(reply)) => reply,
            Ok(Outcome::Waiting(ticket)) => {
                // What came before is answered before this is.
                self.flush().await?;
                let (session, buffer) = (Arc::clone(&self.session), &mut self.buffer);
                tokio::select! {
                    biased;
                    answered = session.wait(ticket, None) => replied(answered)?,
                    error = gone(&mut self.reader, buffer) => return Err(error),
                }
            }
            Err(refused) => replied(Err(refused))?,
        };
        // `HELLO` is answered in the protocol that it asks for.
        let protocol = self.session.protocol();
        write_reply(&mut self.out, name, args.len(), &reply, protocol);
        Ok(if is("QUIT") { Next::Close } else { Next::GoOn })
    }

    async fn subscribe(&mut self, change: Change, names: &[&[u8]], protocol: Protocol) {
        if self.session.is_in_transaction() {
            let text = "subscriptions are not allowed inside a transaction";
            write_error(&mut self.out, &error::err(text));
        } else if names.is_empty() && change.begins() {
            write_error(&mut self.out, &error::arity("subscribe"));
        } else {
            self.subscriptions
                .change(change, names, &mut self.out, protocol)
                .await;
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = timeout(PATIENCE, self.writer.write_all(&self.out)).await;
        self.out.clear();
        self.out.shrink_to(MOST_REPLIES);
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Waits until the client has gone away, and reads what it sends meanwhile.
async fn gone(reader: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> io::Error {
    loop {
        if buffer.remaining() >= AHEAD {
            // It is not read further before the command has ended.
            return std::future::pending().await;
        }
        match reader.read_buf(buffer).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// The reply of a command that was carried out; otherwise the engine was shut down.
fn replied(answer: Result<Value, CallError>) -> io::Result<Reply> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(CallError::Replied(error)) => Ok(Err(error)),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn subscribed(name: &[u8]) -> redkit_core::ServerError {
    let name = String::from_utf8_lossy(name.get(..128).unwrap_or(name)).to_ascii_lowercase();
    error::err(format!(
        "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    ))
}
