//! Fleets of real processes that use the same sessions at once, rotate, end and revoke them, while they are stopped and
//! killed, connections are cut, the server restarts and slots move. A few seconds of it are a test; `cargo xtask chaos
//! session` runs it for minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use redkit_core::{Client, ClientConfig, Command as RedisCommand};
use redkit_session::{Session, SessionSecrets, SessionStore, SignIn};
use redkit_testkit::{Cluster, Program, RawReply, Server, ServerOptions, TestProcess};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const USERS: usize = 8;

/// The servers of a child's sessions and of its users' cookies, its number, and of how many, in its environment.
const SESSIONS: &str = "REDKIT_SESSION_FLEET_SESSIONS";
const COOKIES: &str = "REDKIT_SESSION_FLEET_COOKIES";
const NUMBER: &str = "REDKIT_SESSION_FLEET_NUMBER";
const COUNT: &str = "REDKIT_SESSION_FLEET_COUNT";

fn number_of(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Not a test: a process of a fleet. Without an order it does nothing.
#[test]
#[ignore = "it is a child of the tests beside it"]
fn child() {
    let (Ok(sessions), Ok(cookies)) = (std::env::var(SESSIONS), std::env::var(COOKIES)) else {
        return;
    };
    let (number, count) = (number_of(NUMBER).unwrap(), number_of(COUNT).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let browser = Browser {
            store: store(&connect(&sessions).await),
            cookies: connect(&cookies).await,
        };
        loop {
            let user = rand::rng().random_range(0..USERS);
            browser.request(user, user % count == number).await;
        }
    });
}

fn store(client: &Client) -> SessionStore {
    let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32]).unwrap();
    // The old id of a rotation lives longer than anything here takes.
    SessionStore::builder(client, "fleet", secrets)
        .rotation_grace(20 * SECOND)
        .build()
        .unwrap()
}

async fn connect(url: &str) -> Client {
    let config = ClientConfig::from_url(url).unwrap().command_timeout(SECOND);
    loop {
        // A child may be born into an outage.
        match Client::connect(config.clone()).await {
            Ok(client) => return client,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Requests of users whose cookies lie where all processes find them.
struct Browser {
    store: SessionStore,
    cookies: Client,
}

/// A number that is another each time.
fn unique() -> i64 {
    rand::rng().random_range(1..i64::MAX)
}

/// A number for a session's id, of which nothing else is to be said.
fn number_of_id(id: &str) -> i64 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::from_le_bytes((hash >> 1).to_le_bytes())
}

fn text(session: &Session) -> String {
    session.id().expose().expose_secret().to_owned()
}

impl Browser {
    async fn cookie(&self, user: usize) -> Option<String> {
        let get = RedisCommand::new("GET").key(self.cookies.key(format!("cookie:{user}")));
        self.cookies.call(get).await.ok()?
    }

    async fn set_cookie(&self, user: usize, id: &str) {
        let set = RedisCommand::new("SET").key(self.cookies.key(format!("cookie:{user}")));
        drop(self.cookies.call::<()>(set.arg(id)).await);
    }

    /// One request. Only one process signs a user in and out.
    async fn request(&self, user: usize, is_owner: bool) {
        let began = TestProcess::now();
        let cookie = self.cookie(user).await;
        let loaded = match &cookie {
            Some(id) => match self.store.load(id).await {
                Ok(loaded) => loaded,
                Err(_) => return sleep(Duration::from_millis(20)).await,
            },
            None => None,
        };
        let (Some(mut session), Some(id)) = (loaded, cookie) else {
            if is_owner {
                self.sign_in(user).await;
            } else {
                sleep(Duration::from_millis(10)).await;
            }
            return;
        };
        println!("loaded {user} {} {began}", number_of_id(&id));
        let born: i64 = session.get("born").unwrap().unwrap();
        match rand::rng().random_range(0..100) {
            0..70 => {
                let field = unique();
                session.insert(&format!("f{field}"), &1).unwrap();
                if session.commit().await.is_ok() {
                    println!("put {born} {field} 0");
                }
            }
            70..92 => {
                if session.rotate().await.is_ok() {
                    let new = text(&session);
                    println!("rotated {} {} 0", number_of_id(&id), number_of_id(&new));
                    self.set_cookie(user, &new).await;
                } else {
                    println!("unrotated {user} 0 0");
                }
            }
            92..96 if is_owner => {
                let began = TestProcess::now();
                if session.delete().await.is_ok() {
                    println!(
                        "deleted {} {began} {}",
                        number_of_id(&id),
                        TestProcess::now()
                    );
                }
            }
            96.. if is_owner => {
                let began = TestProcess::now();
                if self.store.revoke_all(&format!("user-{user}")).await.is_ok() {
                    println!("ended {user} {began} {}", TestProcess::now());
                }
            }
            _ => {}
        }
    }

    async fn sign_in(&self, user: usize) {
        let born = unique();
        let Ok(mut session) = self.store.start() else {
            return;
        };
        session.insert("born", &born).unwrap();
        let sign_in = SignIn::new(format!("user-{user}"));
        if session.sign_in(sign_in).await.is_ok() {
            let id = text(&session);
            println!("began {user} {} {}", number_of_id(&id), TestProcess::now());
            self.set_cookie(user, &id).await;
        }
    }
}

/// Where the sessions are.
pub(crate) enum World {
    One(Box<Server>),
    Cluster(Cluster),
}

impl World {
    pub(crate) async fn one() -> Self {
        let options = ServerOptions::new()
            .config("appendonly yes")
            .config("appendfsync always");
        Self::One(Box::new(Server::redis(options).await.unwrap()))
    }

    pub(crate) async fn cluster() -> Self {
        Self::Cluster(Cluster::start(Program::Redis, 3, 0).await.unwrap())
    }

    fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// How many kinds of trouble there are: those of so many turns.
    fn kinds_of_trouble(&self) -> usize {
        match self {
            Self::One(_) => 3,
            Self::Cluster(_) => 2,
        }
    }

    /// Does something to the servers by which no data are lost. Gives how many slots with sessions it has moved.
    async fn trouble(&self, turn: usize) -> usize {
        match self {
            Self::One(server) => {
                match turn % 3 {
                    0 => drop(server.kill_clients().await.unwrap()),
                    1 => {
                        server.stop().unwrap();
                        sleep(SECOND).await;
                        server.cont().unwrap();
                    }
                    _ => server.restart().await.unwrap(),
                }
                0
            }
            Self::Cluster(cluster) => {
                let masters = cluster.masters().await.unwrap();
                if turn.is_multiple_of(2) {
                    masters[turn % masters.len()].kill_clients().await.unwrap();
                    return 0;
                }
                // All are chosen before the first is moved: a slot that goes on before the nodes have heard of its first
                // move is one that two of them give to each other.
                let slots = join_all(masters.iter().map(|from| slot_in_use(cluster, from))).await;
                let mut moved = 0;
                for (slot, (from, to)) in slots.into_iter().zip([(0, 1), (1, 2), (2, 0)]) {
                    let Some(slot) = slot else { continue };
                    let (from, to) = (masters[from], masters[to]);
                    cluster.migrate_slots(slot..=slot, from, to).await.unwrap();
                    until_all_know_the_move(&masters).await;
                    moved += 1;
                }
                moved
            }
        }
    }
}

/// A slot of which a master has keys.
async fn slot_in_use(cluster: &Cluster, master: &Server) -> Option<u16> {
    match master.raw(&["RANDOMKEY"]).await.unwrap() {
        RawReply::Nil => None,
        key => Some(cluster.slot_of(&key.text().unwrap()).await.unwrap()),
    }
}

/// Waits until all nodes have heard of the epochs of all, by which the latest claim of a slot is known.
async fn until_all_know_the_move(masters: &[&Server]) {
    let latest = Instant::now() + 60 * SECOND;
    loop {
        let views = join_all(masters.iter().map(|node| epochs_known_to(node))).await;
        if views.windows(2).all(|pair| pair.first() == pair.last()) {
            return;
        }
        assert!(
            Instant::now() < latest,
            "the nodes do not hear of each other: {views:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// The names of the nodes with their epochs, as a node knows them.
async fn epochs_known_to(node: &Server) -> Vec<(String, String)> {
    let nodes = node.raw(&["CLUSTER", "NODES"]).await.unwrap();
    let mut epochs: Vec<_> = nodes
        .text()
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.nth(5)?.to_owned()))
        })
        .collect();
    epochs.sort();
    epochs
}

/// Runs so many processes for so long, and checks what they say: no session is loaded after its end was answered, no
/// change that was answered is missing at the end, and nobody is signed out without a reason.
pub(crate) async fn run(world: &World, processes: usize, time: Duration) {
    let cookies = Server::redis(ServerOptions::new()).await.unwrap();
    let start = |number: usize| {
        let variables = [
            (SESSIONS, world.url()),
            (COOKIES, cookies.url()),
            (NUMBER, number.to_string()),
            (COUNT, processes.to_string()),
        ];
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        TestProcess::start("fleet::child", &variables).unwrap()
    };
    let mut fleet: Vec<TestProcess> = (0..processes).map(start).collect();
    let (mut lines, mut kills, mut faults) = (Vec::new(), 0, 0);
    let end = Instant::now() + time;
    // However slow the machine is, each kind of trouble comes: a third of the faults are the servers'.
    let least = 3 * world.kinds_of_trouble();
    let is_cluster = matches!(world, World::Cluster(_));
    let mut moved = 0;
    // As many loads as show something, of processes that were killed: they are heard then.
    let latest = end + 120 * SECOND;
    let loads_in = |lines: &[String]| TestProcess::numbers::<3>(lines, "loaded").len();
    while Instant::now() < end
        || faults < least
        || (is_cluster && moved == 0)
        || (loads_in(&lines) <= 100 && Instant::now() < latest)
    {
        sleep(Duration::from_millis(rand::rng().random_range(100..500))).await;
        let which = rand::rng().random_range(0..processes);
        match faults % 3 {
            0 => {
                fleet[which].stop().unwrap();
                sleep(SECOND).await;
                fleet[which].cont().unwrap();
            }
            1 => {
                let killed = std::mem::replace(&mut fleet[which], start(which));
                lines.extend(killed.kill().await);
                kills += 1;
            }
            _ => moved += world.trouble(faults / 3).await,
        }
        faults += 1;
    }
    sleep(2 * SECOND).await;
    for process in fleet {
        lines.extend(process.kill().await);
    }
    let said = Said::read(&lines);
    let loads = said.check_loads();
    let client = connect(&world.url()).await;
    let browser = Browser {
        store: store(&client),
        cookies: connect(&cookies.url()).await,
    };
    let mut found = 0;
    for user in 0..USERS {
        let Some(id) = browser.cookie(user).await else {
            continue;
        };
        if let Some(session) = browser.store.load(&id).await.unwrap() {
            found += said.check_changes(&session);
        }
    }
    let signed_out = said.began.len().saturating_sub(USERS);
    println!(
        "{loads} loads, {} changes ({found} of them in the last sessions), {} rotations, {} ends, {kills} processes \
         killed, {faults} faults, {moved} slots of sessions moved; {signed_out} times a user signed in again",
        said.puts.values().map(BTreeSet::len).sum::<usize>(),
        said.rotated.len(),
        said.ended.len() + said.deleted.len(),
    );
    // A rotation whose reply, or whose process, was lost may cost the cookie.
    let reasons = said.ended.len() + said.deleted.len() + kills + processes + said.unrotated;
    assert!(
        signed_out <= reasons,
        "{signed_out} sign-ins anew, {reasons} reasons"
    );
    assert!(loads > 100 && found > 0, "{loads} loads, {found} changes");
}

/// What the processes said.
struct Said {
    /// User, id, when the sign-in was answered.
    began: Vec<[i64; 3]>,
    /// User, when the end of all was asked for, when it was answered.
    ended: Vec<[i64; 3]>,
    /// Id, when its end was asked for, when it was answered.
    deleted: Vec<[i64; 3]>,
    /// User, id, when the request began.
    loaded: Vec<[i64; 3]>,
    /// The id that a session had before, by the one after.
    rotated: BTreeMap<i64, i64>,
    unrotated: usize,
    /// By the sign-in.
    puts: BTreeMap<i64, BTreeSet<i64>>,
}

impl Said {
    fn read(lines: &[String]) -> Self {
        let of = |word| TestProcess::numbers::<3>(lines, word);
        let mut puts: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for [born, field, _] in of("put") {
            puts.entry(born).or_default().insert(field);
        }
        Self {
            began: of("began"),
            ended: of("ended"),
            deleted: of("deleted"),
            loaded: of("loaded"),
            rotated: of("rotated")
                .into_iter()
                .map(|[old, new, _]| (new, old))
                .collect(),
            unrotated: of("unrotated").len(),
            puts,
        }
    }

    /// The id that a session had at its sign-in, as far as that is known.
    fn first_id(&self, id: i64) -> i64 {
        let mut first = id;
        while let Some(&before) = self.rotated.get(&first) {
            first = before;
        }
        first
    }

    /// No session that had begun before it was ended, alone or with all of its user, is loaded by a request that began
    /// after that.
    fn check_loads(&self) -> usize {
        let began: BTreeMap<i64, i64> = self.began.iter().map(|&[_, id, at]| (id, at)).collect();
        let deleted = self.deleted.iter();
        let deleted = deleted.map(|&[id, asked, answered]| [self.first_id(id), asked, answered]);
        let deleted: Vec<[i64; 3]> = deleted.collect();
        for &[user, id, at] in &self.loaded {
            let first = self.first_id(id);
            let Some(&born) = began.get(&first) else {
                continue;
            };
            let is_over = |asked: i64, answered: i64| born < asked && answered < at;
            let of_all = self
                .ended
                .iter()
                .find(|&&[of, asked, answered]| of == user && is_over(asked, answered));
            let of_one = deleted
                .iter()
                .find(|&&[of, asked, answered]| of == first && is_over(asked, answered));
            assert!(
                of_all.is_none() && of_one.is_none(),
                "a session of user {user} that began at {born} was loaded at {at}, after {of_all:?} or {of_one:?}"
            );
        }
        self.loaded.len()
    }

    fn check_changes(&self, session: &Session) -> usize {
        let born: i64 = session.get("born").unwrap().unwrap();
        let puts = self.puts.get(&born).cloned().unwrap_or_default();
        for field in &puts {
            assert!(
                session.contains(&format!("f{field}")),
                "a change of {born} is missing"
            );
        }
        puts.len()
    }
}
