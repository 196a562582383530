//! [`Cluster`]: private servers made into a cluster.

mod formation;
mod migration;
mod options;
mod view;

use std::net::SocketAddr;
use std::ops::RangeInclusive;

pub use self::migration::Migration;
pub use self::options::ClusterOptions;
use crate::admin::{PATIENCE, ask, ask_text, field, wait_until};
use crate::{Error, Program, Server, server};
use view::{Member, View};

/// A private cluster on free ports, which ends with its test as a [`Server`] does.
///
/// Its nodes are [`Server`]s, to be stopped, killed and restarted. What this says about them it
/// asks those that run, at the time of the call; where they disagree, the higher epoch is right.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    password: Option<String>,
}

impl Cluster {
    /// Starts a cluster with equal shares of the slots and returns when all nodes serve and the
    /// replicas are in sync. A server does not serve before it has been up for two seconds.
    ///
    /// # Errors
    /// [`Error`] when the program is not on this machine or the cluster does not come up.
    pub async fn start(
        program: Program,
        masters: usize,
        replicas_per_master: usize,
    ) -> Result<Self, Error> {
        Self::start_with(program, masters, replicas_per_master, ClusterOptions::new()).await
    }

    /// [`Cluster::start`] with options.
    ///
    /// # Errors
    /// [`Error`] when the program is not on this machine or the cluster does not come up.
    pub async fn start_with(
        program: Program,
        masters: usize,
        replicas_per_master: usize,
        options: ClusterOptions,
    ) -> Result<Self, Error> {
        let masters = masters.max(1);
        let mut node_options = options.node_options();
        let first = match options.tls {
            true => node_options.clone().tls(),
            false => node_options.clone(),
        };
        let mut nodes = vec![Server::start(program, first).await?];
        if let Some(tls) = nodes.first().and_then(Server::tls) {
            node_options = node_options.tls_of(tls.clone());
        }
        let others = masters * (1 + replicas_per_master) - 1;
        nodes.extend(Server::start_many(program, node_options, others).await?);
        formation::form(&nodes, masters).await?;
        let password = nodes.first().and_then(Server::password).map(str::to_owned);
        let cluster = Self { nodes, password };
        cluster.wait_until_ok().await?;
        Ok(cluster)
    }

    /// The URL with all nodes, the password and the authority's certificate in it.
    pub fn url(&self) -> String {
        let addrs: Vec<_> = self.nodes.iter().map(Server::addr).collect();
        self.url_at(&addrs)
    }

    /// The same URL with other addresses in it: some of the nodes, or what is no node at all.
    pub fn url_at(&self, addrs: &[SocketAddr]) -> String {
        let tls = self.nodes.first().and_then(Server::tls);
        let password = self.password.as_deref();
        server::url("redis-cluster", password, addrs, "", tls, None)
    }

    /// All nodes: first those that were started as masters, then the replicas, of which the first
    /// has replicated the first master, and so on in turn.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The masters, those without slots too.
    ///
    /// # Errors
    /// [`Error`] when no node answers.
    pub async fn masters(&self) -> Result<Vec<&Server>, Error> {
        let view = self.view().await?;
        Ok(self.servers(view.masters()))
    }

    /// The replicas of a master. One that has become a master itself has none of its old ones.
    ///
    /// # Errors
    /// [`Error`] when no node answers.
    pub async fn replicas_of(&self, master: &Server) -> Result<Vec<&Server>, Error> {
        let view = self.view().await?;
        let Some(master) = view.member(master.addr().port()) else {
            return Ok(Vec::new());
        };
        let its_own = |member: &&Member| member.master.as_ref() == Some(&master.id);
        Ok(self.servers(view.0.iter().filter(its_own)))
    }

    /// The master that has this slot.
    ///
    /// # Errors
    /// [`Error`] when no node answers, and when none has the slot.
    pub async fn node_of_slot(&self, slot: u16) -> Result<&Server, Error> {
        let view = self.view().await?;
        let owner = self.servers(view.owner(slot).into_iter());
        owner.first().copied().ok_or_else(|| Error::Refused {
            command: "CLUSTER NODES".to_owned(),
            reply: format!("no node with slot {slot}"),
        })
    }

    /// The slot of a key, as the servers count it (`CLUSTER KEYSLOT`).
    ///
    /// # Errors
    /// [`Error`] when no node answers.
    pub async fn slot_of(&self, key: &str) -> Result<u16, Error> {
        let reply = ask(self.any_running()?, &["CLUSTER", "KEYSLOT", key]).await?;
        let slot = reply.int().and_then(|slot| u16::try_from(slot).ok());
        slot.ok_or_else(|| Error::Refused {
            command: "CLUSTER KEYSLOT".to_owned(),
            reply: format!("{reply:?}"),
        })
    }

    /// The id of a node, which it keeps over restarts.
    ///
    /// # Errors
    /// [`Error`] when it does not answer.
    pub async fn id(&self, node: &Server) -> Result<String, Error> {
        ask_text(node, &["CLUSTER", "MYID"]).await
    }

    /// Waits until all nodes that [run](Server::is_running) serve all slots, agree about one
    /// another, and the replicas among them are in sync: after a kill, until a replica has taken
    /// over.
    ///
    /// # Errors
    /// [`Error::Late`] when that does not come about within a minute, as without a replica.
    pub async fn wait_until_ok(&self) -> Result<(), Error> {
        wait_until("a cluster that serves", PATIENCE, async || {
            let running: Vec<_> = self.running().collect();
            let ports: Vec<_> = running.iter().map(|node| node.addr().port()).collect();
            let mut views = Vec::new();
            for node in &running {
                let info = ask_text(node, &["CLUSTER", "INFO"]).await?;
                if field(&info, "cluster_state") != Some("ok") {
                    return Ok(Err(format!("the node at {} says {info}", node.addr())));
                }
                let info = ask_text(node, &["INFO", "replication"]).await?;
                if let Some(link) = field(&info, "master_link_status")
                    && link != "up"
                {
                    return Ok(Err(format!("{} has its link {link}", node.addr())));
                }
                views.push(self.view_of(node).await?);
            }
            let mut roles = Vec::new();
            for view in &views {
                match view.settled(&ports) {
                    Ok(settled) => roles.push(settled),
                    Err(doubt) => return Ok(Err(doubt)),
                }
            }
            if roles.windows(2).any(|pair| pair.first() != pair.last()) {
                return Ok(Err(format!("the nodes disagree: {roles:?}")));
            }
            // The others serve and agree also before they have noticed that a master is gone.
            let masters = self.masters().await?;
            match masters.into_iter().find(|master| !master.is_running()) {
                Some(gone) => Ok(Err(format!("nobody replaces {}", gone.addr()))),
                None => Ok(Ok(())),
            }
        })
        .await
    }

    /// Lets a replica take over from its master, which has to run, without a loss
    /// (`CLUSTER FAILOVER`), and waits until all nodes have taken note.
    ///
    /// # Errors
    /// [`Error`] when it refuses, or does not come about within a minute.
    pub async fn failover(&self, replica: &Server) -> Result<(), Error> {
        ask(replica, &["CLUSTER", "FAILOVER"]).await?;
        let mut rounds = 0;
        wait_until("the replica taking over", PATIENCE, async || {
            let info = ask_text(replica, &["INFO", "replication"]).await?;
            if field(&info, "role") == Some("master") {
                return Ok(Ok(()));
            }
            rounds += 1;
            // It gives up after five seconds, as can happen on a busy machine.
            if rounds % 600 == 0 {
                ask(replica, &["CLUSTER", "FAILOVER"]).await?;
            }
            Ok(Err(info))
        })
        .await?;
        self.wait_until_ok().await
    }

    /// Begins to move a slot to another master: clients are sent on with `ASK` for the keys that
    /// [`Migration::move_some`] has moved.
    ///
    /// # Errors
    /// [`Error`] when a server does not answer or refuses.
    pub async fn begin_migration<'a>(
        &'a self,
        slot: u16,
        to: &'a Server,
    ) -> Result<Migration<'a>, Error> {
        let from = self.node_of_slot(slot).await?;
        Migration::begin(self, slot, from, to).await
    }

    /// Moves slots with their keys, one after the other, while clients go on.
    ///
    /// # Errors
    /// [`Error`] when a server does not answer or refuses, such as when `from` lacks a slot.
    pub async fn migrate_slots(
        &self,
        slots: RangeInclusive<u16>,
        from: &Server,
        to: &Server,
    ) -> Result<(), Error> {
        for slot in slots {
            Migration::begin(self, slot, from, to)
                .await?
                .finish()
                .await?;
        }
        Ok(())
    }

    /// Empties all masters that run.
    ///
    /// # Errors
    /// [`Error`] when one does not answer.
    pub async fn flushall(&self) -> Result<(), Error> {
        for master in self.masters().await? {
            if master.is_running() {
                ask(master, &["FLUSHALL"]).await?;
            }
        }
        Ok(())
    }

    /// The number of keys on all masters that run. A key in a slot that is half-way is on one.
    ///
    /// # Errors
    /// [`Error`] when one does not answer.
    pub async fn dbsize(&self) -> Result<u64, Error> {
        let mut size = 0;
        for master in self.masters().await? {
            if master.is_running() {
                let own = ask(master, &["DBSIZE"]).await?.int().unwrap_or_default();
                size += u64::try_from(own).unwrap_or_default();
            }
        }
        Ok(size)
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn any_running(&self) -> Result<&Server, Error> {
        self.running().next().ok_or_else(|| Error::Io {
            what: "asking the cluster",
            source: std::io::Error::other("none of its nodes runs"),
        })
    }

    async fn view_of(&self, node: &Server) -> Result<View, Error> {
        Ok(View::parse(&ask_text(node, &["CLUSTER", "NODES"]).await?))
    }

    async fn view(&self) -> Result<View, Error> {
        self.any_running()?;
        let mut views = Vec::new();
        for node in self.running() {
            views.push(self.view_of(node).await?);
        }
        Ok(View::merge(views))
    }

    /// The servers of these members, in the order of [`Cluster::nodes`].
    fn servers<'a>(&self, members: impl Iterator<Item = &'a Member>) -> Vec<&Server> {
        let ports: Vec<_> = members.map(|member| member.port).collect();
        let nodes = self.nodes.iter();
        nodes
            .filter(|node| ports.contains(&node.addr().port()))
            .collect()
    }
}
