//! [`Home`]: the servers that the tests of one kind share.

use std::time::Duration;

use redkit_embedded::Embedded;
use tokio::sync::OnceCell;

use super::BackendKind;
use crate::{
    Cluster, ClusterOptions, Error, Program, SentinelOptions, Sentinels, Server, ServerOptions,
};

/// How long a shared server may be busy before its peers take it for dead: a test on a busy
/// machine must not set off a failover for all others.
const CALM: Duration = Duration::from_secs(30);

/// What is behind the client of a test.
pub(super) enum Home {
    Embedded(Embedded),
    Server(&'static Server),
    Cluster(&'static Cluster),
    Sentinels(&'static Sentinels),
}

impl Home {
    /// An engine for each test; of servers, one home per kind and process. Nothing drops those: a
    /// server ends with the process that started it.
    pub(super) async fn of(kind: BackendKind) -> Result<Self, Error> {
        static REDIS: OnceCell<Server> = OnceCell::const_new();
        static VALKEY: OnceCell<Server> = OnceCell::const_new();
        static REDIS_8: OnceCell<Server> = OnceCell::const_new();
        static VALKEY_9: OnceCell<Server> = OnceCell::const_new();
        static TLS: OnceCell<Server> = OnceCell::const_new();
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        static VALKEY_CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        static FRED: OnceCell<Server> = OnceCell::const_new();
        static SENTINELS: OnceCell<Sentinels> = OnceCell::const_new();
        Ok(match kind {
            BackendKind::Embedded => Home::Embedded(Embedded::new()),
            BackendKind::Redis => Home::Server(server(&REDIS, kind).await?),
            BackendKind::Valkey => Home::Server(server(&VALKEY, kind).await?),
            BackendKind::Redis8 => Home::Server(server(&REDIS_8, kind).await?),
            BackendKind::Valkey9 => Home::Server(server(&VALKEY_9, kind).await?),
            BackendKind::Tls => Home::Server(server(&TLS, kind).await?),
            BackendKind::Cluster => Home::Cluster(cluster(&CLUSTER, Program::Redis).await?),
            BackendKind::ValkeyCluster => {
                Home::Cluster(cluster(&VALKEY_CLUSTER, Program::Valkey).await?)
            }
            // Through either driver the same: a namespace keeps the tests apart.
            BackendKind::Sentinel | BackendKind::FredSentinel => {
                Home::Sentinels(sentinels(&SENTINELS).await?)
            }
            BackendKind::Fred => Home::Server(server(&FRED, kind).await?),
        })
    }

    pub(super) fn url(&self) -> String {
        match self {
            Home::Embedded(_) => "embedded://".to_owned(),
            Home::Server(server) => server.url(),
            Home::Cluster(cluster) => cluster.url(),
            Home::Sentinels(sentinels) => sentinels.url(),
        }
    }
}

/// Starts a server for a kind that is one server.
pub(super) async fn start(kind: BackendKind, options: ServerOptions) -> Result<Server, Error> {
    let is_not_one = |cause: &str| Error::Client {
        backend: kind.to_string(),
        cause: cause.to_owned(),
    };
    match kind {
        BackendKind::Embedded => Err(is_not_one("it has no server; mark the test #[networked]")),
        BackendKind::Redis | BackendKind::Fred => Server::start(Program::Redis, options).await,
        BackendKind::Valkey => Server::start(Program::Valkey, options).await,
        BackendKind::Redis8 => Server::start(Program::Redis8, options).await,
        BackendKind::Valkey9 => Server::start(Program::Valkey9, options).await,
        BackendKind::Tls => {
            let options = match options.has_password() {
                true => options,
                // It has characters that a URL has to escape.
                false => options.password("p@ss/w%rd:?#"),
            };
            Server::start(Program::Redis, options.tls()).await
        }
        BackendKind::Cluster | BackendKind::ValkeyCluster => Err(is_not_one(
            "it is several servers; mark the test #[networked], or take a `Cluster`",
        )),
        BackendKind::Sentinel | BackendKind::FredSentinel => Err(is_not_one(
            "it is several servers; mark the test #[networked], or take `Sentinels`",
        )),
    }
}

async fn server(
    cell: &'static OnceCell<Server>,
    kind: BackendKind,
) -> Result<&'static Server, Error> {
    cell.get_or_try_init(|| start(kind, ServerOptions::new()))
        .await
}

async fn cluster(
    cell: &'static OnceCell<Cluster>,
    program: Program,
) -> Result<&'static Cluster, Error> {
    let options = ClusterOptions::new().node_timeout(CALM);
    cell.get_or_try_init(|| Cluster::start_with(program, 3, 0, options))
        .await
}

async fn sentinels(cell: &'static OnceCell<Sentinels>) -> Result<&'static Sentinels, Error> {
    let options = SentinelOptions::new().down_after(CALM);
    cell.get_or_try_init(|| Sentinels::start_with(Program::Redis, 3, 1, options))
        .await
}
