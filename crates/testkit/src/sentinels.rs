//! [`Sentinels`]: a master with replicas, and the sentinels that watch over them.

mod options;

use std::net::SocketAddr;

pub use self::options::SentinelOptions;
use crate::admin::{PATIENCE, ask, ask_text, field, wait_until};
use crate::{Error, Program, RawReply, Server, server};

/// The master's name.
const MASTER: &str = "mymaster";

/// A private master with replicas, and the sentinels that watch over them with a majority as their
/// quorum. All end with their test as a [`Server`] does.
///
/// They are [`Server`]s, to be stopped, killed and restarted; [`Server::raw`] speaks to sentinels
/// too. A sentinel that was stopped for more than two seconds does nothing for half a minute after
/// it goes on (the servers call it tilt).
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Server>,
    servers: Vec<Server>,
    sentinel_password: Option<String>,
}

impl Sentinels {
    /// Starts a master, `replicas` and `sentinels`, and returns when the replicas are in sync and
    /// the sentinels know all servers and one another.
    ///
    /// # Errors
    /// [`Error`] when the program is not on this machine or they do not come up.
    pub async fn start(program: Program, sentinels: usize, replicas: usize) -> Result<Self, Error> {
        Self::start_with(program, sentinels, replicas, SentinelOptions::new()).await
    }

    /// [`Sentinels::start`] with options.
    ///
    /// # Errors
    /// [`Error`] when the program is not on this machine or they do not come up.
    pub async fn start_with(
        program: Program,
        sentinels: usize,
        replicas: usize,
        options: SentinelOptions,
    ) -> Result<Self, Error> {
        let master = Server::start(program, options.master()).await?;
        let sentinel_options = options.sentinel(&master, sentinels / 2 + 1);
        let replica_options = options.replica(&master);
        let mut all = Self {
            sentinels: Vec::new(),
            servers: vec![master],
            sentinel_password: options.sentinel_password,
        };
        all.servers
            .extend(Server::start_many(program, replica_options, replicas).await?);
        // Sentinels ask a master for its replicas when they come up, and then every ten seconds.
        wait_until("replicas in sync", PATIENCE, async || {
            all.in_sync(all.servers.first()).await
        })
        .await?;
        all.sentinels = Server::start_many(program, sentinel_options, sentinels.max(1)).await?;
        all.wait_until_ok().await?;
        Ok(all)
    }

    /// The URL with all sentinels, the passwords and the authority's certificate in it.
    pub fn url(&self) -> String {
        let addrs: Vec<_> = self.sentinels.iter().map(Server::addr).collect();
        self.url_at(&addrs)
    }

    /// The same URL with other addresses in it: some of the sentinels, proxies before them, or
    /// what is no sentinel at all.
    pub fn url_at(&self, addrs: &[SocketAddr]) -> String {
        let server = self.servers.first();
        server::url(
            "redis-sentinel",
            server.and_then(Server::password),
            addrs,
            &format!("/{MASTER}"),
            server.and_then(Server::tls),
            self.sentinel_password
                .as_deref()
                .map(|password| ("sentinel_password", password)),
        )
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The master and the replicas: first the one that was started as the master.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The master, as the first sentinel that [runs](Server::is_running) says.
    ///
    /// # Errors
    /// [`Error`] when none answers.
    pub async fn master(&self) -> Result<&Server, Error> {
        self.master_of(self.a_sentinel()?).await
    }

    /// The servers that run and replicate the master.
    ///
    /// # Errors
    /// [`Error`] when a server that runs does not answer.
    pub async fn replicas(&self) -> Result<Vec<&Server>, Error> {
        let port = self.master().await?.addr().port().to_string();
        let mut replicas = Vec::new();
        for server in self.servers.iter().filter(|server| server.is_running()) {
            let info = ask_text(server, &["INFO", "replication"]).await?;
            if field(&info, "master_port") == Some(&port) {
                replicas.push(server);
            }
        }
        Ok(replicas)
    }

    /// Has a replica promoted while the master runs (`SENTINEL FAILOVER`), and gives it when all
    /// sentinels that run name it and it is a master. The old one is still a master then, and
    /// takes writes that are lost when the sentinels make it a replica, about ten seconds later:
    /// [`wait_until_ok`](Sentinels::wait_until_ok) waits for that.
    ///
    /// # Errors
    /// [`Error`] when it does not come about within a minute.
    pub async fn failover(&self) -> Result<&Server, Error> {
        let old = self.master().await?.addr();
        let sentinel = self.a_sentinel()?;
        wait_until("a planned failover", PATIENCE, async || {
            if self.master_of(sentinel).await?.addr() != old {
                return Ok(Ok(()));
            }
            // Refused while it is under way, and while the sentinel does not know its replicas well.
            ask(sentinel, &["SENTINEL", "FAILOVER", MASTER]).await?;
            Ok(Err("it has begun".to_owned()))
        })
        .await?;
        self.wait_for_other_master(old).await
    }

    /// Kills the master (SIGKILL) and gives it; [`Server::restart`] brings it back.
    ///
    /// # Errors
    /// [`Error`] when no sentinel answers.
    pub async fn kill_master(&self) -> Result<&Server, Error> {
        let master = self.master().await?;
        master.kill9().await;
        Ok(master)
    }

    /// Waits until all sentinels that run name one and the same master which is not at `old`, and
    /// which is a master.
    ///
    /// # Errors
    /// [`Error`] when that does not come about within a minute.
    pub async fn wait_for_other_master(&self, old: SocketAddr) -> Result<&Server, Error> {
        wait_until("another master", PATIENCE, async || {
            let master = match self.agreed_master().await? {
                Ok(master) => master,
                Err(cause) => return Ok(Err(cause)),
            };
            if master.addr() == old {
                return Ok(Err(format!("the sentinels still name {old}")));
            }
            let info = ask_text(master, &["INFO", "replication"]).await?;
            Ok(match field(&info, "role") {
                Some("master") => Ok(master),
                _ => Err(format!("{} is not a master yet", master.addr())),
            })
        })
        .await
    }

    /// Waits until all that run are as they should be: the sentinels know one another and name
    /// one master, and all other servers replicate it and are in sync.
    ///
    /// # Errors
    /// [`Error::Late`] when that does not come about within a minute.
    pub async fn wait_until_ok(&self) -> Result<(), Error> {
        wait_until("sentinels with a healthy master", PATIENCE, async || {
            let master = match self.agreed_master().await? {
                Ok(master) => master,
                Err(cause) => return Ok(Err(cause)),
            };
            if let Err(cause) = self.in_sync(Some(master)).await? {
                return Ok(Err(cause));
            }
            let known = format!("sentinels={}", self.sentinels.len());
            let replicas = self.servers.len() - 1;
            for sentinel in self.running_sentinels() {
                let info = ask_text(sentinel, &["INFO", "sentinel"]).await?;
                let told = field(&info, "master0").unwrap_or_default();
                let slaves = format!("slaves={replicas}");
                if ![known.as_str(), "status=ok", slaves.as_str()]
                    .iter()
                    .all(|fact| told.split(',').any(|own| own == *fact))
                {
                    return Ok(Err(format!("{} says {told}", sentinel.addr())));
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Whether all servers that run are `master` and replicas in sync with it.
    async fn in_sync(&self, master: Option<&Server>) -> Result<Result<(), String>, Error> {
        let port = master.map(|master| master.addr().port().to_string());
        for server in self.servers.iter().filter(|server| server.is_running()) {
            let info = ask_text(server, &["INFO", "replication"]).await?;
            let (role, of) = (field(&info, "role"), field(&info, "master_port"));
            let is_right = match master.map(Server::addr) == Some(server.addr()) {
                true => role == Some("master"),
                false => of == port.as_deref() && field(&info, "master_link_status") == Some("up"),
            };
            if !is_right {
                return Ok(Err(format!("{} says {info}", server.addr())));
            }
        }
        Ok(Ok(()))
    }

    async fn agreed_master(&self) -> Result<Result<&Server, String>, Error> {
        let mut agreed = self.master().await?;
        for sentinel in self.running_sentinels() {
            let master = self.master_of(sentinel).await?;
            if master.addr() != agreed.addr() {
                let (one, other) = (agreed.addr(), master.addr());
                return Ok(Err(format!("some name {one}, others {other}")));
            }
            agreed = master;
        }
        Ok(Ok(agreed))
    }

    fn running_sentinels(&self) -> impl Iterator<Item = &Server> {
        self.sentinels
            .iter()
            .filter(|sentinel| sentinel.is_running())
    }

    fn a_sentinel(&self) -> Result<&Server, Error> {
        self.running_sentinels().next().ok_or_else(|| Error::Io {
            what: "asking a sentinel",
            source: std::io::Error::other("none of them runs"),
        })
    }

    async fn master_of(&self, sentinel: &Server) -> Result<&Server, Error> {
        let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let reply = ask(sentinel, &command).await?;
        let port = match &reply {
            RawReply::Array(addr) => addr.get(1).and_then(RawReply::int),
            _ => None,
        };
        let its = |server: &&Server| port == Some(i64::from(server.addr().port()));
        self.servers.iter().find(its).ok_or_else(|| Error::Refused {
            command: command.join(" "),
            reply: format!("{reply:?}"),
        })
    }
}
