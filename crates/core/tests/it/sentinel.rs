//! The master that sentinels name: found, followed, and left at once when it is another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command, Driver};
use redkit_testkit::{Program, Proxy, SentinelOptions, Sentinels, Server, ServerOptions};
use tokio_util::task::AbortOnDropHandle;

each_driver! {
    ()
    nothing_is_written_to_the_old_master_once_the_switch_is_known,
    a_master_that_comes_back_from_the_dead_is_left_alone,
    a_replica_that_is_named_as_master_is_refused,
    most_sentinels_decide_when_they_disagree,
    sentinels_and_servers_have_credentials_of_their_own,
    pipelines_leave_a_demoted_master_too,
    a_script_that_makes_up_an_error_is_not_repeated,
    sentinels_far_away_are_reached,
    sentinels_are_not_flooded_while_there_is_no_master,
}

async fn pipelines_leave_a_demoted_master_too(driver: Driver) {
    let (old, new) = pair().await;
    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let sentinel = &sentinels.sentinels()[0];
    name(sentinel, &old).await;
    let url = sentinels.url().replace("/mymaster", "/other");
    let config = config(&url, driver).command_timeout(Duration::from_secs(10));
    // One each: who leaves the master ends what others have under way on the same connection.
    let client = Client::connect(config.clone()).await.unwrap();
    let other = Client::connect(config).await.unwrap();
    let increment = || Command::new("INCR").key("n");
    for client in [&client, &other] {
        client.call::<i64>(increment()).await.unwrap();
    }

    new.raw(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let port = new.addr().port().to_string();
    old.raw(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let begun = new.raw(&["SET", "n", "0"]).await.unwrap();
    assert!(!begun.is_error());
    let transaction = vec![
        Command::new("MULTI"),
        increment(),
        increment(),
        Command::new("EXEC"),
    ];
    let (plain, whole, ()) = tokio::join!(
        client.pipeline(vec![increment(), increment()]),
        other.pipeline(transaction),
        async {
            // The switch is not known for a while; until then nobody knows better.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let gone = sentinel.raw(&["SENTINEL", "REMOVE", "other"]).await;
            assert!(!gone.unwrap().is_error());
            name(sentinel, &new).await;
        },
    );
    for reply in plain.unwrap().into_iter().chain(whole.unwrap()) {
        reply.unwrap();
    }
    assert_eq!(new.raw(&["GET", "n"]).await.unwrap().int(), Some(4));
    client.shutdown().await;
    other.shutdown().await;
}

async fn a_script_that_makes_up_an_error_is_not_repeated(driver: Driver) {
    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let config = config(&sentinels.url(), driver).command_timeout(Duration::from_secs(10));
    let client = Client::connect(config).await.unwrap();
    let script = "redis.call('INCR', KEYS[1]) return redis.error_reply('READONLY of my own')";
    let eval = Command::new("EVAL").arg(script).arg(1).key("n");
    let error = client.call::<i64>(eval.clone()).await.unwrap_err();
    assert!(error.to_string().contains("of my own"), "{error}");
    let master = sentinels.master().await.unwrap();
    assert_eq!(master.raw(&["GET", "n"]).await.unwrap().int(), Some(1));
    let replies = client.pipeline(vec![eval]).await.unwrap();
    let error = replies[0].as_ref().unwrap_err();
    assert!(error.to_string().contains("of my own"), "{error}");
    assert_eq!(master.raw(&["GET", "n"]).await.unwrap().int(), Some(2));
    client.shutdown().await;
}

async fn sentinels_far_away_are_reached(driver: Driver) {
    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let proxy = Proxy::start(sentinels.sentinels()[0].addr()).await.unwrap();
    // A handshake takes longer than a sentinel next door would be waited for.
    proxy.delay(Duration::from_millis(300), Duration::from_millis(300));
    let config = config(&sentinels.url_at(&[proxy.addr()]), driver);
    let client = Client::connect(config.connect_timeout(Duration::from_secs(10)))
        .await
        .unwrap();
    client.shutdown().await;
}

async fn sentinels_are_not_flooded_while_there_is_no_master(driver: Driver) {
    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    let pause = Duration::from_millis(1);
    let config = config(&sentinels.url(), driver).reconnect(pause, pause);
    let client = Client::connect(config).await.unwrap();
    let sentinel = &sentinels.sentinels()[0];
    // A question is two commands.
    let commands = async || {
        let stats = sentinel.raw(&["INFO", "stats"]).await.unwrap();
        let stats = stats.text().unwrap();
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    };
    sentinels.kill_master().await.unwrap();
    let before = commands().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = commands().await - before;
    assert!(
        (4..=60).contains(&asked),
        "{asked} commands in three seconds"
    );
    client.shutdown().await;
}

fn config(url: &str, driver: Driver) -> ClientConfig {
    ClientConfig::from_url(url).unwrap().driver(driver)
}

/// Writes without a pause, and counts what was answered.
struct Writers {
    answered: Arc<AtomicU64>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Writers {
    fn start(client: &Client) -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let tasks = (0..4).map(|i| {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            AbortOnDropHandle::new(tokio::spawn(async move {
                let key = client.key(format!("key-{i}"));
                loop {
                    let set = Command::new("SET").key(&key).arg("v");
                    match client.call::<()>(set).await {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            }))
        });
        Self {
            _tasks: tasks.collect(),
            answered,
        }
    }

    /// Waits until more was answered than has been until now.
    async fn go_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.answered.load(Ordering::Relaxed) < before + 20 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no write is answered"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// How many `SET`s a server has been sent, by clients or by its master.
async fn sets(server: &Server) -> u64 {
    let stats = server.raw(&["INFO", "commandstats"]).await.unwrap();
    let stats = stats.text().unwrap();
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_set:calls="));
    calls.map_or(0, |calls| {
        calls.split(',').next().unwrap().parse::<u64>().unwrap()
    })
}

async fn is_master(server: &Server) -> bool {
    let info = server.raw(&["INFO", "replication"]).await.unwrap();
    info.text().unwrap().contains("role:master")
}

/// How long after all sentinels know. They say so at once; a client that has to ask them for it
/// needs up to two seconds.
const AT_ONCE: Duration = Duration::from_millis(250);

async fn nothing_is_written_to_the_old_master_once_the_switch_is_known(driver: Driver) {
    let sentinels = Sentinels::start(Program::Redis, 3, 2).await.unwrap();
    let client = Client::connect(config(&sentinels.url(), driver))
        .await
        .unwrap();
    let writers = Writers::start(&client);
    for round in 0..2 {
        writers.go_on().await;
        let old = sentinels.master().await.unwrap();
        let new = sentinels.failover().await.unwrap();
        tokio::time::sleep(AT_ONCE).await;
        let (old_before, new_before) = (sets(old).await, sets(new).await);
        writers.go_on().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (old_after, new_after) = (sets(old).await, sets(new).await);
        assert!(
            is_master(old).await,
            "round {round}: it would have taken writes, so that this shows something"
        );
        assert_eq!(old_before, old_after, "round {round}: the old master");
        assert!(new_before < new_after, "round {round}: the new master");
    }
    client.shutdown().await;
}

async fn a_master_that_comes_back_from_the_dead_is_left_alone(driver: Driver) {
    let options = SentinelOptions::new().down_after(Duration::from_secs(1));
    let sentinels = Sentinels::start_with(Program::Redis, 3, 1, options)
        .await
        .unwrap();
    let client = Client::connect(config(&sentinels.url(), driver))
        .await
        .unwrap();
    let writers = Writers::start(&client);
    writers.go_on().await;
    let old = sentinels.kill_master().await.unwrap();
    sentinels.wait_for_other_master(old.addr()).await.unwrap();
    writers.go_on().await;
    // It thinks that it is a master, until the sentinels tell it otherwise.
    old.restart().await.unwrap();
    assert!(is_master(old).await);
    let new = sentinels.master().await.unwrap();
    new.kill_clients().await.unwrap();
    writers.go_on().await;
    assert!(is_master(old).await, "this shows something");
    assert_eq!(sets(old).await, 0, "the old master");
    client.shutdown().await;
}

/// Two servers that no sentinel knows, the second a replica of the first.
async fn pair() -> (Server, Server) {
    let master = Server::redis(ServerOptions::new()).await.unwrap();
    let replica = Server::redis(ServerOptions::new()).await.unwrap();
    let port = master.addr().port().to_string();
    replica
        .raw(&["REPLICAOF", "127.0.0.1", &port])
        .await
        .unwrap();
    (master, replica)
}

/// Has a sentinel name `server` as the master `other`.
async fn name(sentinel: &Server, server: &Server) {
    let port = server.addr().port().to_string();
    let monitor = ["SENTINEL", "MONITOR", "other", "127.0.0.1", &port, "9"];
    assert!(!sentinel.raw(&monitor).await.unwrap().is_error());
}

async fn a_replica_that_is_named_as_master_is_refused(driver: Driver) {
    let (_master, replica) = pair().await;
    let sentinels = Sentinels::start(Program::Redis, 1, 0).await.unwrap();
    name(&sentinels.sentinels()[0], &replica).await;
    let url = sentinels.url().replace("/mymaster", "/other");
    let error = Client::connect(config(&url, driver)).await.unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("is a replica") && shown.contains("`other`"),
        "{shown}"
    );
    assert!(shown.contains(&replica.addr().to_string()), "{shown}");
}

async fn most_sentinels_decide_when_they_disagree(driver: Driver) {
    let (master, _replica) = pair().await;
    let (stale, _replica) = pair().await;
    let sentinels = Sentinels::start(Program::Redis, 3, 0).await.unwrap();
    let url = sentinels.url().replace("/mymaster", "/other");
    // Whichever is asked first, and whichever is behind.
    for behind in 0..3 {
        for (at, sentinel) in sentinels.sentinels().iter().enumerate() {
            sentinel
                .raw(&["SENTINEL", "REMOVE", "other"])
                .await
                .unwrap();
            name(sentinel, if at == behind { &stale } else { &master }).await;
        }
        let client = Client::connect(config(&url, driver)).await.unwrap();
        let set = Command::new("SET").key("k").arg(behind);
        client.call::<()>(set).await.unwrap();
        let found = master.raw(&["GET", "k"]).await.unwrap().int();
        assert_eq!(found, Some(i64::try_from(behind).unwrap()));
        client.shutdown().await;
    }
}

async fn sentinels_and_servers_have_credentials_of_their_own(driver: Driver) {
    let options = SentinelOptions::new()
        .password("servers")
        .sentinel_password("theirs")
        .tls();
    let sentinels = Sentinels::start_with(Program::Redis, 1, 0, options)
        .await
        .unwrap();
    let client = Client::connect(config(&sentinels.url(), driver))
        .await
        .unwrap();
    let pong: String = client.call(Command::new("PING")).await.unwrap();
    assert_eq!(pong, "PONG");
    client.shutdown().await;

    // None at all, and a wrong one: either names the sentinels' field, and not the servers'.
    let none = sentinels.url().replace("sentinel_password=theirs", "");
    let wrong = sentinels.url().replace("=theirs", "=others");
    for (url, fix) in [
        (none, "set `sentinel_password`"),
        (wrong, "`sentinel_password`"),
    ] {
        let error = Client::connect(config(&url, driver)).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(fix), "{shown}");
        for other in ["`password`", "servers@", "others"] {
            assert!(!shown.contains(other), "{other} in {shown}");
        }
    }
}
