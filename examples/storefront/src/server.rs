//! Serving until told to stop, and then stopping in bounded time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long requests that are being answered are waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `router` until `stop` resolves. Then no connection is taken any more, and the requests
/// that are being answered have [`GRACE`] to end.
///
/// # Errors
/// What accepting connections failed with.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        // Nobody listens any more when the server has ended by itself.
        let _ = stopping.send(());
    };
    // Limits tell visitors apart by the addresses of their connections.
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(stop);
    let out_of_patience = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            // The server dropped its end without being told to stop; its own result says why.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = async { server.await } => outcome,
        () = out_of_patience => {
            tracing::warn!("some requests had not ended {GRACE:?} after the stop; they are cut off");
            Ok(())
        }
    }
}

/// Resolves when the process is asked to end: Ctrl-C, or SIGTERM where there is one.
///
/// # Errors
/// When the signals cannot be listened for.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn request_in_flight(handler: Router) -> (TcpStream, impl Future<Output = Duration>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, handler, async {
            let _ = stopped.await;
        }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopping = async move {
            let start = Instant::now();
            stop.send(()).unwrap();
            serving.await.unwrap().unwrap();
            start.elapsed()
        };
        (client, stopping)
    }

    #[tokio::test]
    async fn a_request_in_flight_is_answered_before_the_end() {
        let slow = get(async || {
            tokio::time::sleep(Duration::from_millis(400)).await;
            "done"
        });
        let (mut client, stopping) = request_in_flight(Router::new().route("/", slow)).await;
        assert!(stopping.await < GRACE);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_hold_the_shop_open() {
        let stuck = get(async || std::future::pending::<()>().await);
        let (_client, stopping) = request_in_flight(Router::new().route("/", stuck)).await;
        let took = stopping.await;
        assert!(took >= GRACE && took < GRACE * 3, "{took:?}");
    }
}
