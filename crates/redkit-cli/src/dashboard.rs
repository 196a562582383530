//! `redkit dashboard`: the dashboard of redkit-monitor for any server, on this machine.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use clap::Args;
use redkit_monitor::dashboard::{Dashboard, Rights, Viewer};
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::args::Common;
use crate::connect;
use crate::failure::Failure;
use crate::output;

const HELP: &str = "\
It shows the servers, and the programs that publish how they stand (with a dashboard of their own). It is no
instance of a program itself. There is no password: so it listens on this machine only, and everybody who can log in
here can look. Without --actions nothing can be changed by it, and without --payloads no message is shown.

Examples:
  redkit dashboard
  redkit --namespace shop dashboard --listen 127.0.0.1:9000 --actions
  ssh -L 6680:localhost:6680 server redkit dashboard      from elsewhere";

/// Serves a page that shows servers, programs, topics, locks, limits and sessions live
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct DashboardArgs {
    /// Where to listen: an address of this machine that others do not reach. Port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:6680")]
    listen: SocketAddr,
    /// Allows every action of the page (redrive, force-release, revoke, reset and so on), and shows payloads
    #[arg(long)]
    actions: bool,
    /// Shows messages' payloads, which may hold personal data
    #[arg(long)]
    payloads: bool,
    /// A file with the programs' command key, for actions on what only another process has
    #[arg(long, value_name = "FILE")]
    command_key_file: Option<std::path::PathBuf>,
}

pub(crate) async fn run(common: &Common, args: &DashboardArgs) -> Result<ExitCode, Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::usage(
            format!(
                "other machines reach {}, and the page has no password",
                args.listen
            ),
            "listen on 127.0.0.1 and reach it through ssh (`ssh -L`), or put the dashboard into a program of your own \
             that knows its users (redkit-monitor, `dashboard`)",
        ));
    }
    let key = match &args.command_key_file {
        Some(file) => Some(read_key(file)?),
        None => None,
    };
    let client = connect::client(common).await?;
    let rights = rights(args);
    let mut builder = Dashboard::builder(&client)
        .program("redkit dashboard")
        .observer()
        .access(move |_: &axum::http::request::Parts| Some(Viewer::new("local", rights.clone())));
    if let Some(key) = key {
        builder = builder.command_key(key);
    }
    let dashboard = builder.start()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let cause = format!("cannot listen on {}: {error}", args.listen);
        Failure::new(
            cause,
            "choose another port with --listen, such as 127.0.0.1:0 for a free one",
        )
    })?;
    let failed = |error: io::Error| {
        Failure::new(
            format!("the page can no longer be served: {error}"),
            "start it again",
        )
    };
    let address = listener.local_addr().map_err(failed)?;
    let url = format!("http://{address}/");
    match common.json {
        true => output::json_line(&serde_json::json!({ "url": url }))?,
        false => output::line(&format!("{url}  (Control-C ends it)"))?,
    }
    let routes = Router::new()
        .merge(dashboard.routes())
        .layer(from_fn(of_this_machine));
    let served = axum::serve(listener, routes);
    // Event streams do not end by themselves: the end is not waited for.
    tokio::select! {
        served = async { served.await } => served.map_err(failed)?,
        () = asked_to_end() => {}
    }
    dashboard.shutdown().await;
    client.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

fn rights(args: &DashboardArgs) -> Rights {
    match (args.actions, args.payloads) {
        (true, _) => Rights::all(),
        (false, true) => Rights::read_only().analysis().payloads(),
        (false, false) => Rights::read_only().analysis(),
    }
}

fn read_key(file: &std::path::Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let cause = format!(
            "the command key cannot be read from {}: {error}",
            file.display()
        );
        Failure::usage(cause, "name a file that this user can read")
    })?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// A page of another site can have a name of its own resolve to this machine: then the browser names that in `Host`.
async fn of_this_machine(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match host.is_some_and(is_this_machine) {
        true => next.run(request).await,
        false => (
            StatusCode::MISDIRECTED_REQUEST,
            "this page is for http://localhost only\n",
        )
            .into_response(),
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Waits for Control-C or the signal to end.
async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without the signal the process is ended by the system.
    let _ = tokio::signal::ctrl_c().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in [
            "localhost",
            "localhost:6680",
            "127.0.0.1:6680",
            "[::1]:6680",
            "LOCALHOST:1",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:6680",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost.evil:1",
            "",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
