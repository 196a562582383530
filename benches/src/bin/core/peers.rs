//! The crates that the client is measured beside, used as their documentation says.

use ::redis::IntoConnectionInfo;
use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use bytes::Bytes;
use fred::clients::Client as FredClient;
use fred::interfaces::{ClientLike, KeysInterface, LuaInterface};
use fred::types::RespVersion;
use fred::types::config::{Config, ConnectionConfig, TcpConfig};
use redkit_benches::Worker;

use super::{KEYS, LARGE, Operation, SCRIPT, VALUE, Work};

/// The `redis` crate's multiplexed connection: no breaker, no retry, no reconnection.
pub(super) struct Raw {
    pub(super) connection: MultiplexedConnection,
    pub(super) work: Work,
}

impl Worker for Raw {
    async fn step(&mut self) {
        let key = self.work.key();
        let key = key.as_bytes();
        let to = &mut self.connection;
        match self.work.operation {
            Operation::Get => {
                let mut get = ::redis::cmd("GET");
                let value: Option<Vec<u8>> = get.arg(key).query_async(to).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Set => {
                let mut set = ::redis::cmd("SET");
                set.arg(key).arg(VALUE).query_async::<()>(to).await.unwrap();
            }
            Operation::Script => {
                let mut script = ::redis::cmd("EVALSHA");
                script.arg(SCRIPT.sha()).arg(1).arg(key);
                let value: Option<Vec<u8>> = script.query_async(to).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Many => {
                let mut mget = ::redis::cmd("MGET");
                for key in self.work.keys.iter() {
                    mget.arg(key.as_bytes());
                }
                let values: Vec<Vec<u8>> = mget.query_async(to).await.unwrap();
                assert_eq!(values.len(), KEYS);
            }
            Operation::Large => {
                let mut get = ::redis::cmd("GET");
                get.arg(self.work.large.as_bytes());
                let value: Option<Vec<u8>> = get.query_async(to).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(LARGE));
            }
        }
    }
}

/// One of fred's clients.
pub(super) struct Fred {
    pub(super) client: FredClient,
    pub(super) work: Work,
}

impl Worker for Fred {
    async fn step(&mut self) {
        let key = self.work.key();
        let key = key.as_bytes();
        let to = &self.client;
        match self.work.operation {
            Operation::Get => {
                let value: Option<Bytes> = to.get(key).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Set => {
                to.set::<(), _, _>(key, VALUE, None, None, false)
                    .await
                    .unwrap();
            }
            Operation::Script => {
                let none: Vec<&[u8]> = Vec::new();
                let value: Option<Bytes> = to.evalsha(SCRIPT.sha(), vec![key], none).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
            }
            Operation::Many => {
                let keys: Vec<&[u8]> = self.work.keys.iter().map(|key| key.as_bytes()).collect();
                let values: Vec<Bytes> = to.mget(keys).await.unwrap();
                assert_eq!(values.len(), KEYS);
            }
            Operation::Large => {
                let value: Option<Bytes> = to.get(self.work.large.as_bytes()).await.unwrap();
                assert_eq!(value.map(|value| value.len()), Some(LARGE));
            }
        }
    }
}

/// The raw driver with the same socket option as ours: without `TCP_NODELAY`, its default, commands
/// wait for the acknowledgement of earlier ones, which batches well on loopback and costs a round
/// trip on a network.
pub(super) async fn redis(url: &str) -> MultiplexedConnection {
    let info = format!("{url}?protocol=resp3")
        .into_connection_info()
        .unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    ::redis::Client::open(info)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

/// fred with RESP3 and the same socket option, otherwise with its defaults.
pub(super) async fn fred(url: &str) -> FredClient {
    let config = Config {
        version: RespVersion::RESP3,
        ..Config::from_url(url).unwrap()
    };
    let connection = ConnectionConfig {
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    };
    let client = FredClient::new(config, None, Some(connection), None);
    client.init().await.unwrap();
    client
}
