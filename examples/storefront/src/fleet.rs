//! Several processes that are one shop: one database, one Redis, which is the first process's engine where there is no
//! other.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::Args;
use crate::connection::{self, SERVER};
use crate::shop::{Shop, ShopError};

/// How long a process has to end.
const GRACE: Duration = Duration::from_secs(10);

/// The other processes of a shop. They end with this one, whatever ends it: their standard input ends with it.
pub(crate) struct Fleet {
    children: Vec<Child>,
    ports: Vec<u16>,
    /// Passes on what they say.
    _voices: JoinSet<()>,
}

impl Fleet {
    /// Starts the other processes, on the ports behind `address`.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(crate) fn start(
        args: &Args,
        address: SocketAddr,
        shop: &Shop,
    ) -> Result<Self, Box<dyn Error>> {
        let mut fleet = Self {
            children: Vec::new(),
            ports: Vec::new(),
            _voices: JoinSet::new(),
        };
        for number in 1..args.instances {
            let port = address
                .port()
                .checked_add(number)
                .ok_or("there are no ports left behind that of --listen")?;
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg("--until-stdin-ends")
                .args(["--listen", &SocketAddr::new(address.ip(), port).to_string()])
                .args(["--ship-after", &args.ship_after.to_string()])
                .arg("--database")
                .arg(shop.database())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true);
            for proxy in &args.trust_proxy {
                command.args(["--trust-proxy", proxy]);
            }
            if args.drive.is_some() {
                command.args(["--trust-proxy", "127.0.0.0/8"]);
            }
            if let Some(engine) = shop.connection.looked_into_at() {
                command.env(SERVER, format!("redis://{engine}"));
            }
            let mut child = command.spawn()?;
            if let Some(said) = child.stdout.take() {
                fleet._voices.spawn(async move {
                    let mut lines = BufReader::new(said).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        println!("{}: {line}", number + 1);
                    }
                });
            }
            fleet.children.push(child);
            fleet.ports.push(port);
        }
        Ok(fleet)
    }

    /// Where the shop is open: here, and at the others.
    pub(crate) fn addresses(&self, own: SocketAddr) -> Vec<SocketAddr> {
        let ip = match own.ip().is_unspecified() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => own.ip(),
        };
        let ports = std::iter::once(own.port()).chain(self.ports.iter().copied());
        ports.map(|port| SocketAddr::new(ip, port)).collect()
    }

    /// Asks the others to end, and waits for them.
    pub(crate) async fn stop(mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for mut child in self.children {
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                tracing::warn!("a process of the fleet is killed");
            }
        }
    }
}

/// Where the engine of this process is to be served: where the arguments say, and on a free port when other processes
/// need it.
///
/// # Errors
/// [`ShopError`] for a `REDIS_URL` that is no text.
pub(crate) fn engine_port(args: &Args) -> Result<Option<SocketAddr>, ShopError> {
    let is_needed = args.instances > 1 && connection::url()?.is_none();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(args.listen_redis.or(is_needed.then_some(anywhere)))
}

/// Resolves when standard input ends.
pub(crate) async fn stdin_end() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    loop {
        let read: io::Result<usize> = input.read(&mut ignored).await;
        if matches!(read, Ok(0) | Err(_)) {
            return;
        }
    }
}
