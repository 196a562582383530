//! Commands that wait, on several connections at once: the same scenes on the engine and on real
//! servers give the same replies.
//!
//! In a scene, `a> …` starts a command on connection `a` and goes on when the server says that it
//! waits, `a …` runs a command to its end, and `a<` takes the reply of what was started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Backend, CallError, Client, ClientConfig, Command, Value};
use redkit_embedded::Embedded;
use redkit_testkit::{Program, Server, ServerOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::compare::{Strictness, same};
use super::grammar::{Line, words};
use super::is_queued;

/// A scene stands for itself: there are no keys at its start.
const SCENES: &[&str] = &[
    // Waiters are served in the order of their arrival, whatever they wait for.
    "a> BLPOP k 9 ; b> BRPOP k 9 ; c> BLMPOP 9 1 k LEFT COUNT 9 ; d RPUSH k 1 2 3 4 ; d LRANGE k 0 -1 ; a< ; b< ; c<",
    "a> BZPOPMIN z 9 ; b> BZPOPMAX z 9 ; c> BZMPOP 9 1 z MIN COUNT 9 ; d ZADD z 1 one 2 two 3 three 4 four ; d EXISTS z ; a< ; b< ; c<",
    // A waiter that comes back waits behind the others.
    "a> BLPOP k 9 ; b> BLPOP k 9 ; c RPUSH k 1 ; a< ; a> BLPOP k 9 ; c RPUSH k 2 ; b< ; c RPUSH k 3 ; a<",
    // The waiter whose key changed is served, not the first waiter.
    "a> BLPOP k 9 ; b> BLPOP m 9 ; c RPUSH m 1 ; b< ; c RPUSH k 2 ; a<",
    // Every command that makes a list serves the waiters.
    "a> BLPOP k 9 ; b RPUSH src x ; b RENAME src k ; a< ; b EXISTS k src",
    "a> BLPOP k 9 ; b RPUSH src x ; b COPY src k ; a< ; b EXISTS k src",
    "a> BLPOP k 9 ; b LPUSH src x ; b LMOVE src k LEFT RIGHT ; a< ; b EXISTS k src",
    "a> BLPOP k 9 ; b EVAL `redis.call('rpush', KEYS[1], 1, 2); return redis.call('llen', KEYS[1])` 1 k ; a< ; b LLEN k",
    "a> BLPOP k 9 ; b MULTI ; b RPUSH k 1 ; b RPUSH k 2 ; b LLEN k ; b EXEC ; a< ; b LRANGE k 0 -1",
    // A value that is gone at the end of a script or a transaction was never there for a waiter.
    "a> BLPOP k 9 ; b EVAL `redis.call('rpush', KEYS[1], 1); return redis.call('del', KEYS[1])` 1 k ; b RPUSH k 2 ; a<",
    "a> BLPOP k 9 ; b MULTI ; b RPUSH k 1 ; b DEL k ; b EXEC ; b RPUSH k 2 ; a<",
    "a> BLPOP k 9 ; b MULTI ; b RPUSH k 1 ; b LPUSH k 2 ; b EXEC ; a<",
    // Keys of another type are passed over.
    "a> BLPOP k 9 ; b SET k v ; b DEL k ; b ZADD k 1 m ; b DEL k ; b RPUSH k x ; a<",
    "b SET k v ; a BLPOP k 9 ; a BLPOP none k 9 ; a BZPOPMIN k 9 ; a BLMOVE k m LEFT LEFT 9",
    // Chains: a waiter takes the value that another waiter moved on.
    "a> BLMOVE k m LEFT RIGHT 9 ; b> BRPOPLPUSH m n 9 ; c> BLPOP n 9 ; d RPUSH k x ; a< ; b< ; c< ; d EXISTS k m n",
    "a> BLMOVE k k LEFT RIGHT 9 ; b RPUSH k x y ; a< ; b LRANGE k 0 -1",
    "a> BRPOPLPUSH k m 9 ; b SET m v ; b RPUSH k x ; a< ; b LRANGE k 0 -1",
    "a> BRPOPLPUSH k m 9 ; c> BLPOP k 9 ; b SET m v ; b RPUSH k x ; a< ; c< ; b LLEN k",
    // The first of several keys that has something.
    "b RPUSH m 1 ; b RPUSH n 2 ; a BLPOP k m n 9 ; a BLMPOP 9 3 k m n RIGHT ; a BLPOP k m n 0.01",
    "a> BLPOP k m n 9 ; b RPUSH n 1 ; a< ; b EXISTS k m n",
    "a> BLPOP k k 9 ; b RPUSH k 1 2 ; a< ; b LRANGE k 0 -1",
    // Streams: every reader gets the new entries.
    "a> XREAD BLOCK 9000 STREAMS x $ ; b> XREAD COUNT 1 BLOCK 0 STREAMS y x 0 0 ; c XADD x 1-1 f v ; a< ; b<",
    "a> XREAD BLOCK 9000 STREAMS x 5-0 ; b XADD x 3-0 f v ; b XADD x 5-0 f v ; b XADD x 5-1 f v ; a<",
    "a> XREAD BLOCK 9000 STREAMS x $ ; b MULTI ; b XADD x 1-1 f 1 ; b XADD x 1-2 f 2 ; b EXEC ; a<",
    "a> XREAD BLOCK 9000 STREAMS x $ ; b XGROUP CREATE x g $ MKSTREAM ; b SET y 1 ; b XADD x 2-1 f 1 ; a<",
    "b XADD x 1-1 f v ; a XREAD BLOCK 9000 STREAMS x 0 ; a XREAD BLOCK 5 STREAMS x $ ; a XREAD BLOCK 5 STREAMS x 1-1 ; a XREAD BLOCK 9 STREAMS x +1",
    // One consumer of a group gets an entry.
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; b> XREADGROUP GROUP g b BLOCK 9000 STREAMS x > ; c XADD x 1-1 f 1 ; a< ; c XADD x 1-2 f 2 ; b< ; c XPENDING x g - + 9",
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 COUNT 1 STREAMS x > ; b> XREADGROUP GROUP g b NOACK BLOCK 9000 STREAMS x > ; c MULTI ; c XADD x 1-1 f 1 ; c XADD x 1-2 f 2 ; c EXEC ; a< ; b< ; c XPENDING x g - + 9",
    "c XGROUP CREATE x g 0 MKSTREAM ; c XGROUP CREATE x h 0 ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; b> XREADGROUP GROUP h b BLOCK 9000 STREAMS x > ; c XADD x 1-1 f 1 ; a< ; b< ; a XREADGROUP GROUP g a BLOCK 5 STREAMS x >",
    "c XGROUP CREATE x g 0 MKSTREAM ; c XGROUP CREATE y g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x y > > ; c XADD y 1-1 f 1 ; a< ; c XINFO GROUPS y",
    "c XGROUP CREATE x g 0 MKSTREAM ; a XREADGROUP GROUP g a BLOCK 9000 STREAMS x 0 ; a XREADGROUP GROUP g a BLOCK 5 STREAMS x >",
    // The group goes away under a reader.
    "c XGROUP CREATE x g 0 MKSTREAM ; c XGROUP CREATE x h 0 ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; b> XREADGROUP GROUP h b BLOCK 9000 STREAMS x > ; c XGROUP DESTROY x g ; a< ; c XADD x 1-1 f 1 ; b<",
    // Nothing comes.
    "a BLPOP k 0.01 ; a BLMOVE k m LEFT LEFT 0.01 ; a BLMPOP 0.01 1 k LEFT ; a BZPOPMAX k 0.01 ; a BZMPOP 0.01 1 k MAX ; a BRPOPLPUSH k m 0.01",
    // No waiting in a transaction or a script.
    "a MULTI ; a BLPOP k 0 ; a BLMOVE k m LEFT LEFT 0 ; a BZPOPMIN k 0 ; a BLMPOP 0 1 k LEFT ; a XREAD BLOCK 0 STREAMS k $ ; a EXEC",
    "a EVAL `return redis.pcall('xread', 'streams', 'k', '0')` 0 ; a XADD k 1-0 f v ; a EVAL `return redis.pcall('xread', 'streams', 'k', '0')` 0",
    // Timeouts.
    "a BLPOP k x ; a BLPOP k -1 ; a BLPOP k -inf ; a BLPOP k nan ; a BLMPOP x 1 k LEFT ; a BLMOVE k m x LEFT 0 ; a BLMOVE k m LEFT LEFT x",
    "a BLMPOP 1 0 k LEFT ; a BLMPOP 1 1 k x ; a BLMPOP 1 1 k LEFT COUNT 0 ; a BZMPOP 1 1 k LEFT ; a BLPOP k ; a BLMPOP 0.01 2 k LEFT",
];

/// Scenes that later versions play differently.
const SCENES_OF_THIS_VERSION: &[&str] = &[
    "a EVAL `return redis.pcall('blpop', 'k', 0)` 0",
    "a EVAL `return redis.pcall('xread', 'block', '0', 'streams', 'k', '$')` 0",
    // The stream goes away under a reader of a group.
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; c DEL x ; a<",
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; c SET x v ; a<",
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; c RENAME x y ; a<",
    "c XGROUP CREATE x g 0 MKSTREAM ; a> XREADGROUP GROUP g a BLOCK 9000 STREAMS x > ; c FLUSHALL ; a<",
];

#[tokio::test(flavor = "multi_thread")]
async fn scenes_go_as_on_redis() {
    compare(Program::Redis, Strictness::Texts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenes_go_as_on_valkey() {
    compare(Program::Valkey, Strictness::Codes).await;
}

async fn compare(program: Program, strictness: Strictness) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let mut different = Vec::new();
    let of_this_version = match strictness {
        Strictness::Texts => SCENES_OF_THIS_VERSION,
        Strictness::Codes | Strictness::Newest => &[],
    };
    for scene in SCENES.iter().chain(of_this_version) {
        let expected = play(&**client.backend(), scene).await;
        let actual = play(&Embedded::new(), scene).await;
        assert_eq!(expected.len(), actual.len());
        let mut queued = Vec::new();
        for ((line, expected), (_, actual)) in expected.iter().zip(&actual) {
            if expected.as_ref().is_ok_and(is_queued) {
                queued.push(line.clone());
            }
            if !same(line, &queued, expected, actual, strictness) {
                different.push(format!(
                    "{line}\n  server:   {expected:?}\n  embedded: {actual:?}\nin\n  {scene}"
                ));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

type Reply = Result<Value, CallError>;

struct Stage<'a> {
    backend: &'a dyn Backend,
    connections: BTreeMap<char, Arc<dyn Backend>>,
    waiting: BTreeMap<char, (Line, JoinHandle<Reply>)>,
}

/// Every command of a scene with its reply.
async fn play(backend: &dyn Backend, scene: &str) -> Vec<(Line, Reply)> {
    let mut stage = Stage {
        backend,
        connections: BTreeMap::new(),
        waiting: BTreeMap::new(),
    };
    let mut replies = vec![stage.run('z', Line(words("FLUSHALL"))).await];
    for step in scene.split(" ; ") {
        let (name, what) = step.split_at(1);
        let name = name.chars().next().unwrap();
        match what.strip_prefix('>') {
            Some(line) => stage.start(name, Line(words(line))).await,
            None if what == "<" => replies.push(stage.take(name).await),
            None => replies.push(stage.run(name, Line(words(what))).await),
        }
    }
    assert!(stage.waiting.is_empty(), "replies are left in {scene}");
    replies
}

impl Stage<'_> {
    async fn connection(&mut self, name: char) -> Arc<dyn Backend> {
        if !self.connections.contains_key(&name) {
            let connection = self.backend.dedicated().await.unwrap();
            self.connections.insert(name, connection);
        }
        Arc::clone(&self.connections[&name])
    }

    async fn run(&mut self, name: char, line: Line) -> (Line, Reply) {
        let reply = self.connection(name).await.call(&command(&line)).await;
        (line, reply)
    }

    async fn start(&mut self, name: char, line: Line) {
        let (connection, command) = (self.connection(name).await, command(&line));
        let call = tokio::spawn(async move { connection.call(&command).await });
        self.waiting.insert(name, (line, call));
        let blocked = format!("blocked_clients:{}\r\n", self.waiting.len());
        let end = Instant::now() + Duration::from_secs(10);
        let info = Command::new("INFO").arg("clients");
        while !self.info(&info).await.contains(&blocked) {
            assert!(Instant::now() < end, "{name} does not wait");
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn info(&self, info: &Command) -> String {
        let info = info
            .clone()
            .deadline(Instant::now() + Duration::from_secs(20));
        self.backend.call(&info).await.unwrap().to().unwrap()
    }

    async fn take(&mut self, name: char) -> (Line, Reply) {
        let (line, call) = self.waiting.remove(&name).unwrap();
        let reply = timeout(Duration::from_secs(20), call).await;
        let reply = reply.unwrap_or_else(|_| panic!("{line} goes on waiting"));
        (line, reply.unwrap())
    }
}

fn command(line: &Line) -> Command {
    line.command()
        .deadline(Instant::now() + Duration::from_secs(20))
}
