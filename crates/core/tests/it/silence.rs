//! Silence is noticed at once: the breaker opens when the server owes replies and sends nothing, and
//! closes when it answers again, whoever calls meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redkit_core::breaker::BreakerState;
use redkit_core::{
    CallError, Client, ClientConfig, Command, ConnectionState, Driver, Error, FaultKind, GapReason,
    Interest, Push,
};
use redkit_testkit::{Proxy, Server, ServerOptions};
use tokio::task::JoinHandle;

use crate::lateness::Lateness;

const TIMEOUT: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(150);

/// One case at a time: these tests measure time under load.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

each_driver! {
    (flavor = "multi_thread", worker_threads = 2)
    a_short_stall_opens_nothing_and_a_long_one_opens_until_the_first_byte,
    an_outage_costs_each_caller_one_short_wait,
    callers_that_give_up_early_neither_hide_silence_nor_delay_recovery,
    the_supervisor_closes_the_breaker_after_an_outage_without_traffic,
    a_dead_connection_is_found_in_time_from_its_last_byte,
}

each_driver! {
    ()
    a_pause_of_the_process_itself_opens_nothing,
    a_busy_servers_connection_is_kept,
    a_dead_connection_is_replaced_over_a_slow_line,
}

async fn connect(driver: Driver, url: &str) -> Client {
    connect_with(driver, url, TIMEOUT).await
}

async fn connect_with(driver: Driver, url: &str, timeout: Duration) -> Client {
    let config = ClientConfig::from_url(url)
        .unwrap()
        .driver(driver)
        .command_timeout(timeout);
    Client::connect(config).await.unwrap()
}

/// The states of a client's breaker, and when they began.
struct States {
    seen: Arc<Mutex<Vec<(Instant, BreakerState)>>>,
    task: JoinHandle<()>,
}

impl States {
    fn watch(client: &Client) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut events = client.breaker().events();
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while events.changed().await.is_ok() {
                let state = *events.borrow_and_update();
                noted.lock().push((Instant::now(), state));
            }
        });
        Self { seen, task }
    }

    fn all(&self) -> Vec<BreakerState> {
        self.seen.lock().iter().map(|(_, state)| *state).collect()
    }

    /// How long after `start` it first became `wanted`.
    fn first(&self, wanted: BreakerState, start: Instant) -> Option<Duration> {
        let seen = self.seen.lock();
        let found = seen
            .iter()
            .find(|(at, state)| *state == wanted && *at >= start);
        found.map(|(at, _)| *at - start)
    }
}

impl Drop for States {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_refused(error: &Error) -> bool {
    let fault = error.call_error().and_then(CallError::fault);
    fault.is_some_and(|fault| fault.kind() == FaultKind::BreakerOpen)
}

/// Callers that call all the time, until they are aborted; each end of a call is told.
fn load(
    client: &Client,
    callers: usize,
    told: impl Fn(usize, Instant, Result<(), Error>) + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let caller = |number| {
        let (client, told) = (client.clone(), told.clone());
        tokio::spawn(async move {
            loop {
                let start = Instant::now();
                let get = Command::new("GET").key("k").idempotent(true);
                let outcome = client.call::<Option<String>>(get).await.map(drop);
                let is_err = outcome.is_err();
                told(number, start, outcome);
                if is_err || callers > 4 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    };
    (0..callers).map(caller).collect()
}

/// The one thread of the runtime is blocked for longer than the stall timeout, while the reply lies
/// in the socket.
async fn a_pause_of_the_process_itself_opens_nothing(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let client = connect(driver, &server.url_at(proxy.addr())).await;
    let states = States::watch(&client);
    proxy.delay(Duration::ZERO, Duration::from_millis(50));
    for _ in 0..5 {
        let get = tokio::spawn({
            let client = client.clone();
            async move {
                let get = Command::new("GET").key("k");
                client.call::<Option<String>>(get).await
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        std::thread::sleep(STALL + Duration::from_millis(200));
        get.await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(states.all(), []);
    assert_eq!(*client.state().borrow(), ConnectionState::Connected(1));
    client.shutdown().await;
}

/// A script runs for longer than the stall timeout. The server greets new connections meanwhile, and
/// serves none.
async fn a_busy_servers_connection_is_kept(driver: Driver) {
    let _alone = ALONE.lock().await;
    let options = ServerOptions::new().config("busy-reply-threshold 50");
    let server = Server::redis(options).await.unwrap();
    let client = connect(driver, &server.url()).await;
    let script = "local s = redis.call('TIME') local e repeat e = redis.call('TIME') \
                  until (e[1] - s[1]) * 1000000 + e[2] - s[2] > 1500000 return 7";
    let eval = Command::new("EVAL").arg(script).arg(0);
    let eval = eval.deadline(tokio::time::Instant::now() + Duration::from_secs(10));
    assert_eq!(client.call::<i64>(eval).await.unwrap(), 7);
    let mut state = client.state();
    let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected(_)));
    let connected = connected.await.unwrap().clone();
    assert_eq!(connected, ConnectionState::Connected(1));
    client.shutdown().await;
}

/// A caller with much patience waits on a connection that is dead, while a new one takes longer than
/// the attempts that are made in a hurry.
async fn a_dead_connection_is_replaced_over_a_slow_line(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let proxy = Proxy::start(server.addr()).await.unwrap();
    let client = connect(driver, &server.url_at(proxy.addr())).await;
    let patient = Command::new("GET").key("k");
    let patient = patient.deadline(tokio::time::Instant::now() + Duration::from_secs(20));
    proxy.black_hole();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call::<Option<String>>(patient).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let slow = Duration::from_millis(60);
    proxy.delay(slow, slow);
    let mut state = client.state();
    let replaced = state.wait_for(|state| *state == ConnectionState::Connected(2));
    tokio::time::timeout(Duration::from_secs(5), replaced)
        .await
        .expect("the connection is replaced while the caller waits")
        .unwrap();
    let ping: String = client.call(Command::new("PING")).await.unwrap();
    assert_eq!(ping, "PONG");
    // Its connection is gone, and it may be asked again.
    drop(waiting.await.unwrap());
    client.shutdown().await;
}

async fn a_short_stall_opens_nothing_and_a_long_one_opens_until_the_first_byte(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Arc::new(Server::redis(ServerOptions::new()).await.unwrap());
    let (timeout, stall) = (TIMEOUT * 3, STALL * 3);
    let client = connect_with(driver, &server.url(), timeout).await;
    let states = States::watch(&client);
    let failures = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&failures);
    let callers = load(&client, 4, move |_, _, outcome| {
        if let Err(error) = outcome {
            noted.lock().push(error);
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sleep = async |seconds: &'static str| {
        let server = Arc::clone(&server);
        let start = Instant::now();
        let slept = server.raw(&["DEBUG", "SLEEP", seconds]).await.unwrap();
        assert!(!slept.is_error(), "{slept:?}");
        (start, Instant::now())
    };

    // 0.4 and 0.8 of the command timeout.
    sleep("1.2").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(states.all(), [], "it was shorter than the stall timeout");
    assert!(failures.lock().is_empty());

    let lateness = Lateness::watch();
    let (start, end) = sleep("2.4").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = lateness.worst();
    let opened = states.first(BreakerState::Open, start).expect("it opened");
    let closed = states
        .first(BreakerState::Closed, start)
        .expect("it closed");
    println!("opened after {opened:?}, closed after {closed:?}, timers {late:?} late");
    assert!(opened >= stall - Duration::from_millis(30) && opened <= stall + SLACK + late);
    assert!(closed <= end - start + SLACK + late, "with the first byte");
    assert_eq!(states.all(), [BreakerState::Open, BreakerState::Closed]);
    let failures: Vec<_> = std::mem::take(&mut *failures.lock());
    assert!(
        failures.iter().all(is_refused),
        "calls that waited were answered: {failures:?}"
    );
    callers.iter().for_each(JoinHandle::abort);
    client.shutdown().await;
}

async fn an_outage_costs_each_caller_one_short_wait(driver: Driver) {
    let _alone = ALONE.lock().await;
    for (callers, kill) in [(1, false), (1, true), (32, false), (32, true)] {
        let server = Server::redis(ServerOptions::new()).await.unwrap();
        outage(driver, &server, callers, Duration::from_secs(1), kill).await;
    }
}

/// Steady load, then an outage of 3 s. Gives when the breaker opened, and how many calls waited.
async fn outage(driver: Driver, server: &Server, callers: usize, steady: Duration, kill: bool) {
    let client = connect(driver, &server.url()).await;
    let states = States::watch(&client);
    let waited = Arc::new(Mutex::new(vec![0_u32; callers]));
    let noted = Arc::clone(&waited);
    let tasks = load(&client, callers, move |number, start, outcome| {
        let took = start.elapsed();
        if outcome.is_err() && took > TIMEOUT / 4 {
            noted.lock()[number] += 1;
        }
    });
    tokio::time::sleep(steady).await;
    assert_eq!(states.all(), []);
    let lateness = Lateness::watch();
    let start = Instant::now();
    match kill {
        true => server.kill9().await,
        false => server.stop().unwrap(),
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let late = lateness.worst();
    let opened = states.first(BreakerState::Open, start);
    let waited = waited.lock().clone();
    println!(
        "{driver:?}, {callers} callers, {}: opened after {opened:?}, {} calls waited ({} at most of \
         one caller), timers {late:?} late",
        if kill { "kill" } else { "SIGSTOP" },
        waited.iter().sum::<u32>(),
        waited.iter().max().unwrap(),
    );
    let opened = opened.expect("the breaker opened");
    assert!(opened <= STALL + SLACK + late, "it opened after {opened:?}");
    assert!(waited.iter().all(|calls| *calls <= 1), "{waited:?}");
    tasks.iter().for_each(JoinHandle::abort);
    if !kill {
        server.cont().unwrap();
    }
    client.shutdown().await;
}

/// The figures of an outage after 12 s of steady load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes; prints figures"]
async fn figures_of_an_outage() {
    let _alone = ALONE.lock().await;
    for driver in [Driver::Native, Driver::Fred] {
        for callers in [1, 32, 200] {
            for kill in [false, true] {
                let server = Server::redis(ServerOptions::new()).await.unwrap();
                outage(driver, &server, callers, Duration::from_secs(12), kill).await;
            }
        }
    }
}

async fn callers_that_give_up_early_neither_hide_silence_nor_delay_recovery(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url()).await;
    let states = States::watch(&client);
    let hasty: Vec<_> = (0..16_u64)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    let patience = Duration::from_millis(20 + number * 25);
                    let get = client.call::<Option<String>>(Command::new("GET").key("k"));
                    drop(tokio::time::timeout(patience, get).await);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lateness = Lateness::watch();
    let start = Instant::now();
    server.stop().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let opened = states.first(BreakerState::Open, start);
    let late = lateness.worst();
    println!("opened after {opened:?}, timers {late:?} late");
    assert!(opened.expect("it opened") <= STALL + SLACK + late);
    server.cont().unwrap();
    let back = Instant::now();
    let mut events = client.breaker().events();
    let closed = events.wait_for(|state| *state == BreakerState::Closed);
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("it closes")
        .unwrap();
    let closed = back.elapsed();
    let late = lateness.worst();
    println!("closed {closed:?} after the server went on, timers {late:?} late");
    assert!(closed <= Duration::from_millis(100) + late, "{closed:?}");
    let ping: String = client.call(Command::new("PING")).await.unwrap();
    assert_eq!(ping, "PONG");
    hasty.iter().for_each(JoinHandle::abort);
    client.shutdown().await;
}

async fn the_supervisor_closes_the_breaker_after_an_outage_without_traffic(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = connect(driver, &server.url()).await;
    for kill in [false, true] {
        match kill {
            true => server.kill9().await,
            false => server.stop().unwrap(),
        }
        let calls = (0..40).map(|_| client.call::<i64>(Command::new("INCR").key("n")));
        futures_util::future::join_all(calls).await;
        let state = client.breaker().status().state;
        assert_eq!(state, BreakerState::Open);
        // Nobody calls any more.
        match kill {
            true => server.restart().await.unwrap(),
            false => server.cont().unwrap(),
        }
        let mut events = client.breaker().events();
        let closed = events.wait_for(|state| *state == BreakerState::Closed);
        tokio::time::timeout(Duration::from_secs(5), closed)
            .await
            .expect("the supervisor closes it")
            .unwrap();
        let burst = (0..200).map(|_| client.call::<i64>(Command::new("INCR").key("n")));
        let burst = futures_util::future::join_all(burst).await;
        let refused = burst.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(refused, 0, "of a burst of 200");
    }
    client.shutdown().await;
}

async fn a_dead_connection_is_found_in_time_from_its_last_byte(driver: Driver) {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_millis(400));
    // The second subscription is asked for when the connection is dead already, and nobody answers.
    for (subscription, second) in [(false, false), (true, false), (true, true)] {
        let proxy = Proxy::start(server.addr()).await.unwrap();
        let config = ClientConfig::from_url(&server.url_at(proxy.addr()))
            .unwrap()
            .driver(driver)
            .connect_timeout(Duration::from_secs(5))
            .command_timeout(timeout)
            .probe_interval(interval);
        let client = Client::connect(config).await.unwrap();
        let interest = Interest::Channels(vec!["c".into()]);
        let mut stream = client.subscribe(interest).await.unwrap();
        // The last byte comes shortly after the time at which one that looks at fixed times looks.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let lateness = Lateness::watch();
        match subscription {
            true => {
                server.raw(&["PUBLISH", "c", "m"]).await.unwrap();
                assert!(matches!(stream.next().await, Some(Push::Message { .. })));
            }
            false => {
                let _: String = client.call(Command::new("PING")).await.unwrap();
            }
        }
        let last = Instant::now();
        proxy.half_open();
        let another = second.then(|| {
            let client = client.clone();
            tokio::spawn(async move {
                tokio::time::sleep(interval / 2).await;
                let interest = Interest::Channels(vec!["another".into()]);
                drop(client.subscribe(interest).await);
            })
        });
        let found = async {
            if subscription {
                let gap = stream.next().await;
                assert_eq!(gap, Some(Push::Gap(GapReason::Lost)));
            } else {
                let mut state = client.state();
                let lost =
                    |state: &ConnectionState| matches!(state, ConnectionState::Reconnecting { .. });
                state.wait_for(lost).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("it is found");
        let (took, late) = (last.elapsed(), lateness.worst());
        println!(
            "subscription: {subscription}, another: {second}: found after {took:?}, timers {late:?} late"
        );
        assert!(took <= interval + timeout / 2 + SLACK + late, "{took:?}");
        another.iter().for_each(JoinHandle::abort);
        client.shutdown().await;
    }
}

/// Passes on what a client sends so slowly that the client's socket is full for seconds.
async fn slow_uploads(upstream: std::net::SocketAddr) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(upstream).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                    // About 10 MB/s.
                    tokio::time::sleep(Duration::from_micros(read as u64 / 10)).await;
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_under_way_is_a_sign_of_life() {
    let _alone = ALONE.lock().await;
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let address = slow_uploads(server.addr()).await;
    let client = connect(Driver::Native, &server.url_at(address)).await;
    let states = States::watch(&client);
    let value = bytes::Bytes::from(vec![b'x'; 30_000_000]);
    let set = Command::new("SET").key("k").arg(&value);
    let start = Instant::now();
    let set = set.deadline(tokio::time::Instant::now() + Duration::from_secs(60));
    client.call::<()>(set).await.unwrap();
    println!("uploaded in {:?}", start.elapsed());
    assert!(start.elapsed() > TIMEOUT, "it was to take a while");
    assert_eq!(*client.state().borrow(), ConnectionState::Connected(1));
    assert_eq!(states.all(), []);
    client.shutdown().await;
}

/// A master that hangs closes its own shard, not the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_master_leaves_the_other_shards_alone() {
    let _alone = ALONE.lock().await;
    let options = redkit_testkit::ClusterOptions::new().node_timeout(Duration::from_secs(30));
    let cluster =
        redkit_testkit::Cluster::start_with(redkit_testkit::Program::Redis, 3, 0, options)
            .await
            .unwrap();
    let client = connect(Driver::Native, &cluster.url()).await;
    let hung = cluster.node_of_slot(redkit_core::slot(b"0")).await.unwrap();
    let mut keys = Vec::new();
    for key in 0..24_u32 {
        let slot = redkit_core::slot(key.to_string().as_bytes());
        let owner = cluster.node_of_slot(slot).await.unwrap();
        keys.push((key, owner.addr() == hung.addr()));
    }
    let counts = Arc::new(Mutex::new([[0_u32; 3]; 2]));
    let tasks: Vec<_> = keys
        .into_iter()
        .map(|(key, is_hung)| {
            let (client, counts) = (client.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                loop {
                    let get = Command::new("GET").key(key).idempotent(true);
                    let outcome = client.call::<Option<String>>(get).await;
                    let kind = match &outcome {
                        Ok(_) => 0,
                        Err(error) if is_refused(error) => 1,
                        Err(_) => 2,
                    };
                    counts.lock()[usize::from(is_hung)][kind] += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    *counts.lock() = Default::default();
    hung.stop().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let [healthy, ill] = *counts.lock();
    println!("answered, refused, failed: healthy shards {healthy:?}, the hung one {ill:?}");
    let nodes = client.breaker().nodes();
    let open: Vec<_> = nodes
        .iter()
        .filter(|node| node.status.state == BreakerState::Open)
        .map(|node| node.node.to_string())
        .collect();
    assert_eq!((nodes.len(), open), (3, vec![hung.addr().to_string()]));
    let told = client.breaker().node_events().borrow().clone();
    let told_open = told.values().filter(|state| **state == BreakerState::Open);
    assert_eq!(told_open.count(), 1);
    assert_eq!(&healthy[1..], [0, 0], "healthy shards serve");
    assert!(
        ill[1] > 50 && ill[2] <= 24,
        "calls to the hung one fail at once"
    );
    hung.cont().unwrap();
    let mut events = client.breaker().events();
    let closed = events.wait_for(|state| *state == BreakerState::Closed);
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .expect("it closes")
        .unwrap();
    tasks.iter().for_each(JoinHandle::abort);
    client.shutdown().await;
}
