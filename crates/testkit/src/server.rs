//! [`Server`]: a private Redis or Valkey server.

mod process;
mod program;
mod raw;
mod tls;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::program::Program;
pub use self::raw::RawReply;
pub use self::tls::Tls;
use crate::{Error, port};
use process::Process;

/// How long a server may take to come up. It takes some ten milliseconds; the rest is for a
/// machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a [`Server`] is set up. The default is a server without password, TLS and persistence.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    password: Option<String>,
    tls: bool,
    unix_url: bool,
    lines: Vec<String>,
}

impl ServerOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    pub(crate) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Speaks TLS, and nothing else, on its port.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Gives the unix socket as its [`Server::url`]. Every server has one beside its port.
    #[must_use]
    pub fn unix(mut self) -> Self {
        self.unix_url = true;
        self
    }

    /// Adds a line to the configuration file: `appendonly yes`. A later line wins.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }
}

/// A private server on a free port of the loopback interface, with its files in a temporary
/// folder. It is killed when this is dropped, and also when the process ends in any other way.
///
/// Its administrative methods use connections of their own to the server's unix socket, so they
/// depend neither on the driver under test nor on a [`Proxy`](crate::Proxy).
#[derive(Debug)]
pub struct Server {
    // The process goes before the folder.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    program: Program,
    executable: PathBuf,
    options: ServerOptions,
    port: u16,
    tls: Option<Tls>,
}

impl Server {
    /// Starts a Redis and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn redis(options: ServerOptions) -> Result<Self, Error> {
        Self::start(Program::Redis, options).await
    }

    /// Starts a Valkey and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn valkey(options: ServerOptions) -> Result<Self, Error> {
        Self::start(Program::Valkey, options).await
    }

    /// Starts a server and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn start(program: Program, options: ServerOptions) -> Result<Self, Error> {
        blocking(move || {
            // Between choosing a port and the server's binding it, another process may take it.
            let mut taken = None;
            for _ in 0..5 {
                let server = Self::prepare(program, options.clone())?;
                match server.launch() {
                    Ok(()) => return Ok(server),
                    Err(error) if server.is_port_taken() => taken = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(taken.unwrap_or(Error::NotFound {
                program: program.executable(),
                variable: program.variable(),
            }))
        })
        .await
    }

    /// Which program it is.
    pub fn program(&self) -> Program {
        self.program
    }

    /// The address of its port: TLS if [`ServerOptions::tls`] was chosen.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its URL, with whatever a client has to know: the password, the authority's certificate.
    pub fn url(&self) -> String {
        if !self.options.unix_url {
            return self.url_at(self.addr());
        }
        let socket = self.socket();
        let password = self
            .password()
            .map(|password| ("password", password.to_owned()));
        format!("unix://{}{}", socket.display(), query(password))
    }

    /// The same URL with another address in it: that of a proxy before this server.
    pub fn url_at(&self, addr: SocketAddr) -> String {
        let credentials = match self.password() {
            Some(password) => format!(":{}@", escape(password)),
            None => String::new(),
        };
        match &self.tls {
            None => format!("redis://{credentials}{addr}"),
            Some(tls) => {
                let ca = tls.ca_file.display().to_string();
                format!(
                    "rediss://{credentials}{addr}{}",
                    query(Some(("tls_ca_file", ca)))
                )
            }
        }
    }

    /// The password that it demands.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// Its certificates, if it speaks TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id; `None` after [`Server::kill9`].
    pub fn pid(&self) -> Option<u32> {
        let process = self.process.lock();
        u32::try_from(process.as_ref()?.pid().as_raw_nonzero().get()).ok()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Stops the process (SIGSTOP): its sockets stay open and the system goes on accepting
    /// connections for it, but nothing is answered.
    ///
    /// # Errors
    /// [`Error::Io`] when it is not running.
    pub fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// [`Error::Io`] when it is not running.
    pub fn cont(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Kills the process (SIGKILL) and returns when it is gone. What it had written to its folder
    /// stays for [`Server::restart`].
    pub async fn kill9(&self) {
        let process = self.process.lock().take();
        if let Some(process) = process {
            let ended = blocking(move || {
                process.kill();
                Ok(())
            });
            // It fails only if the thread panicked, which drops the process as well.
            let _ = ended.await;
        }
    }

    /// Kills the process if it runs, starts it again on the same port and folder, and returns when
    /// it answers. Unless the options said otherwise, its data are gone.
    ///
    /// # Errors
    /// [`Error::NotUp`] when it does not come up.
    pub async fn restart(&self) -> Result<(), Error> {
        self.kill9().await;
        let process = self.spawn()?;
        let (socket, password) = (self.socket(), self.options.password.clone());
        let (process, up) = blocking(move || {
            let up = await_answer(&socket, password.as_deref(), &process);
            Ok((process, up))
        })
        .await?;
        up.map_err(|cause| self.not_up(cause))?;
        *self.process.lock() = Some(process);
        Ok(())
    }

    /// Sends one command over a connection of its own and gives the reply, an error reply too.
    ///
    /// # Errors
    /// [`Error::Io`] when the server does not answer within five seconds.
    pub async fn raw(&self, command: &[&str]) -> Result<RawReply, Error> {
        let command = command
            .iter()
            .map(|part| part.as_bytes().to_vec())
            .collect();
        self.raw_bytes(command).await
    }

    /// [`Server::raw`] with arguments that are not text.
    ///
    /// # Errors
    /// [`Error::Io`] when the server does not answer within five seconds.
    pub async fn raw_bytes(&self, command: Vec<Vec<u8>>) -> Result<RawReply, Error> {
        let (socket, password) = (self.socket(), self.options.password.clone());
        blocking(move || {
            raw::exchange(&socket, password.as_deref(), &command)
                .map_err(Error::io("an administrative command"))
        })
        .await
    }

    /// Closes the connections of all clients that are not subscribed (`CLIENT KILL TYPE normal`)
    /// and gives their number.
    ///
    /// # Errors
    /// [`Error`] when the server does not answer or refuses.
    pub async fn kill_clients(&self) -> Result<u64, Error> {
        self.kill_client_type("normal").await
    }

    /// Closes the connections of all subscribed clients (`CLIENT KILL TYPE pubsub`) and gives
    /// their number.
    ///
    /// # Errors
    /// [`Error`] when the server does not answer or refuses.
    pub async fn kill_subscribers(&self) -> Result<u64, Error> {
        self.kill_client_type("pubsub").await
    }

    async fn kill_client_type(&self, kind: &str) -> Result<u64, Error> {
        let reply = self.raw(&["CLIENT", "KILL", "TYPE", kind]).await?;
        reply
            .int()
            .and_then(|killed| u64::try_from(killed).ok())
            .ok_or_else(|| Error::Refused {
                command: "CLIENT KILL".to_owned(),
                reply: format!("{reply:?}"),
            })
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match &*self.process.lock() {
            Some(process) => process.signal(signal),
            None => Err(io::Error::other("the server was killed")),
        }
        .map_err(Error::io("signalling the server"))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn prepare(program: Program, options: ServerOptions) -> Result<Self, Error> {
        let executable = program.find()?;
        let folder = tempfile::Builder::new()
            .prefix("redkit-")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        let tls = match options.tls {
            true => Some(Tls::make(folder.path())?),
            false => None,
        };
        let server = Self {
            process: Mutex::new(None),
            folder,
            program,
            executable,
            options,
            port: port::free().map_err(Error::io("looking for a free port"))?,
            tls,
        };
        std::fs::write(server.folder.path().join("conf"), server.configuration())
            .map_err(Error::io("writing the server's configuration"))?;
        Ok(server)
    }

    fn configuration(&self) -> String {
        let folder = self.folder.path().display();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            format!("dir \"{folder}\""),
            format!("unixsocket \"{}\"", self.socket().display()),
            // Persistence costs time, and a fork in the middle of a timing test.
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            // For DEBUG SLEEP and the like, from this machine only.
            "enable-debug-command local".to_owned(),
        ];
        match &self.tls {
            None => lines.push(format!("port {}", self.port)),
            Some(tls) => lines.extend([
                "port 0".to_owned(),
                format!("tls-port {}", self.port),
                format!("tls-cert-file \"{}\"", tls.certificate_file.display()),
                format!("tls-key-file \"{}\"", tls.key_file.display()),
                format!("tls-ca-cert-file \"{}\"", tls.ca_file.display()),
                "tls-auth-clients no".to_owned(),
            ]),
        }
        if let Some(password) = self.password() {
            lines.push(format!("requirepass \"{password}\""));
        }
        lines.extend(self.options.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn spawn(&self) -> Result<Process, Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(Error::io("opening the server's log"))?;
        let configuration = self.folder.path().join("conf");
        Process::start(
            &self.executable,
            &[&configuration.to_string_lossy()],
            self.folder.path(),
            &log,
        )
        .map_err(Error::io("starting the server"))
    }

    fn launch(&self) -> Result<(), Error> {
        let process = self.spawn()?;
        await_answer(&self.socket(), self.password(), &process)
            .map_err(|cause| self.not_up(cause))?;
        *self.process.lock() = Some(process);
        Ok(())
    }

    fn is_port_taken(&self) -> bool {
        self.log().contains("Address already in use")
    }

    fn not_up(&self, (waited, cause): (Duration, String)) -> Error {
        Error::NotUp {
            program: self.executable.display().to_string(),
            waited,
            cause,
            log: self.log(),
        }
    }
}

fn escape(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn query(field: Option<(&str, String)>) -> String {
    match field {
        Some((name, value)) => format!("?{name}={}", escape(&value)),
        None => String::new(),
    }
}

/// Runs what blocks on a thread for it. It also keeps a paused clock from running ahead while
/// real work is waited for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::Io {
                what: "a thread of the test kit",
                source: io::Error::other(error),
            })
        })
}

/// Waits until this very process answers and has loaded its data. Gives how long it waited and what
/// it saw last if that does not come about.
fn await_answer(
    socket: &Path,
    password: Option<&str>,
    process: &Process,
) -> Result<(), (Duration, String)> {
    let started = Instant::now();
    let ours = format!("\r\nprocess_id:{}\r\n", process.pid().as_raw_nonzero());
    loop {
        // Before the question, so that an answer given just before the end still counts.
        let ended = process.has_ended();
        let cause = match raw::exchange(socket, password, &[b"INFO".to_vec()]) {
            Ok(RawReply::Bulk(info)) => {
                let info = String::from_utf8_lossy(&info);
                if info.contains(&ours) && info.contains("\r\nloading:0\r\n") {
                    return Ok(());
                }
                "it is still loading, or another server answers".to_owned()
            }
            Ok(reply) => format!("{reply:?}"),
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if ended {
            return Err((waited, "it ended".to_owned()));
        }
        if waited > PATIENCE {
            return Err((waited, cause));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
