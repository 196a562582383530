//! Replicas: acquisitions that they confirm, and failovers that lose a lock.

use std::time::Duration;

use redkit_core::{CallError, Client, ClientConfig, ErrorKind, FaultKind, Topology};
use redkit_lock::{Error, FencedRegister, IdempotentError};
use redkit_testkit::{Fixture, Program, Proxy, Server, ServerOptions};

use crate::{LONG, SECOND, builder, eventually, manager};

async fn connect(server: &Server) -> Client {
    let config = ClientConfig::from_url(&server.url()).unwrap();
    Client::connect(config).await.unwrap()
}

/// A master and a replica of it that is up to date.
async fn pair(program: Program, options: ServerOptions) -> (Server, Server) {
    let master = Server::start(program, options.clone()).await.unwrap();
    let replica = replica_of(&master, master.addr().port(), program, options).await;
    (master, replica)
}

/// A replica that reaches its master at this port.
async fn replica_of(
    master: &Server,
    port: u16,
    program: Program,
    options: ServerOptions,
) -> Server {
    let replica = format!("replicaof 127.0.0.1 {port}");
    let replica = Server::start(program, options.config(&replica))
        .await
        .unwrap();
    eventually("the replica is up", async || {
        let wait = master.raw(&["WAIT", "1", "100"]).await.unwrap();
        let info = replica.raw(&["INFO", "replication"]).await.unwrap();
        wait.int() == Some(1) && info.text().unwrap().contains("master_link_status:up")
    })
    .await;
    replica
}

#[tokio::test]
async fn an_acquisition_counts_when_a_replica_has_it() {
    let (master, replica) = pair(Program::Redis, ServerOptions::default()).await;
    let client = connect(&master).await;
    for is_fair in [false, true] {
        let of = |replicas| {
            builder(&client)
                .fair(is_fair)
                .confirmed_by_replicas(replicas, SECOND)
                .build()
                .unwrap()
        };
        let locks = of(1);
        for _ in 0..3 {
            let guard = locks.acquire("k", LONG).await.unwrap();
            let theirs = replica.raw(&["EXISTS", "lock:jobs:{k}"]).await.unwrap();
            assert_eq!(theirs.int(), Some(1), "the replica has it");
            assert!(locks.try_acquire("k").await.is_err());
            assert!(guard.release().await.unwrap());
        }
        let error = of(2).try_acquire("k").await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotConfirmed {
                    confirmed: 1,
                    wanted: 2
                }
            ),
            "{error:?}"
        );
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Server, true)
        );
        // Connections that broke while they were idle are replaced.
        master.kill_clients().await.unwrap();
        eventually("the replica is back", async || {
            master.raw(&["WAIT", "1", "100"]).await.unwrap().int() == Some(1)
        })
        .await;
        locks
            .acquire("k", LONG)
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    // A replica that hangs confirms nothing: a WAIT on any other connection would say that it did.
    replica.stop().unwrap();
    let locks = builder(&client)
        .confirmed_by_replicas(1, Duration::from_millis(200))
        .build()
        .unwrap();
    let error = locks.try_acquire("k").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotConfirmed {
                confirmed: 0,
                wanted: 1
            }
        ),
        "{error:?}"
    );
    assert!(
        locks.inspect("k").await.unwrap().is_none(),
        "it was given back"
    );
    replica.cont().unwrap();
    drop(locks.acquire("k", LONG).await.unwrap());
}

/// Its connections of their own are idle then, and stand.
#[tokio::test]
async fn a_manager_whose_client_was_shut_down_takes_no_lock_that_is_to_be_confirmed() {
    let (master, _replica) = pair(Program::Redis, ServerOptions::default()).await;
    let client = connect(&master).await;
    let locks = builder(&client).confirmed_by_replicas(1, SECOND);
    let locks = locks.build().unwrap();
    let guard = locks.try_acquire("k").await.unwrap();
    assert!(guard.release().await.unwrap());
    client.shutdown().await;
    for timeout in [Duration::ZERO, LONG] {
        let error = locks.acquire("k", timeout).await.unwrap_err();
        let Error::Core(core) = &error else {
            panic!("{error:?}");
        };
        let Some(CallError::NotSent(fault)) = core.call_error() else {
            panic!("{error:?}");
        };
        assert_eq!(fault.kind(), FaultKind::Shutdown);
        let theirs = master.raw(&["EXISTS", "lock:jobs:{k}"]).await.unwrap();
        assert_eq!(theirs.int(), Some(0));
    }
}

#[tokio::test]
async fn an_acquisition_counts_when_it_is_on_disk() {
    let options = ServerOptions::default().config("appendonly yes");
    let (master, replica) = pair(Program::Valkey, options).await;
    let client = connect(&master).await;
    let of = |replicas| {
        builder(&client)
            .confirmed_on_disk(true, replicas, 2 * SECOND)
            .build()
            .unwrap()
    };
    for replicas in [0, 1] {
        let guard = of(replicas).acquire("k", LONG).await.unwrap();
        assert!(guard.release().await.unwrap());
    }
    replica.stop().unwrap();
    let error = of(1).try_acquire("k").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotConfirmed {
                confirmed: 1,
                wanted: 2
            }
        ),
        "{error:?}"
    );
    assert!(manager(&client).inspect("k").await.unwrap().is_none());
    replica.cont().unwrap();
}

#[tokio::test]
async fn a_server_that_is_too_old_to_confirm_is_refused_when_the_manager_is_built() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let client = connect(&server).await;
    assert!(client.capabilities().version < (7, 2, 0), "of Debian");
    let locks = builder(&client).confirmed_on_disk(true, 0, SECOND);
    let error = locks.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("WAITAOF"), "{error}");
    // It has no replica either, and could confirm one.
    let locks = builder(&client).confirmed_by_replicas(1, SECOND);
    locks.build_and_probe().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_confirm_says_so_and_the_lock_is_given_back() {
    let server = Server::start(Program::Valkey, ServerOptions::default());
    let server = server.await.unwrap();
    let client = connect(&server).await;
    let locks = || builder(&client).confirmed_on_disk(true, 0, SECOND);
    let error = locks().build_and_probe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("appendonly"), "{error}");
    let error = locks().build().unwrap().try_acquire("k").await.unwrap_err();
    assert!(matches!(&error, Error::Core(_)), "{error:?}");
    assert!(
        error.to_string().to_uppercase().contains("WAITAOF"),
        "{error}"
    );
    let plain = builder(&client).build().unwrap();
    assert!(plain.inspect("k").await.unwrap().is_none());
    server
        .raw(&["CONFIG", "SET", "appendonly", "yes"])
        .await
        .unwrap();
    let able = locks().build_and_probe().await.unwrap();
    eventually("the first append-only file is written", async || {
        able.try_acquire("k").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn what_was_not_confirmed_does_not_rest() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let client = connect(&server).await;
    let locks = builder(&client)
        .confirmed_by_replicas(1, Duration::from_millis(20))
        .hold_at_least(30 * SECOND)
        .build()
        .unwrap();
    let error = locks.try_acquire("k").await.unwrap_err();
    assert!(matches!(error, Error::NotConfirmed { .. }), "{error:?}");
    assert!(locks.inspect("k").await.unwrap().is_none());
}

/// Work that is to be done once though its server fails over.
#[tokio::test]
async fn work_is_begun_and_its_result_is_kept_when_a_replica_has_it() {
    let (master, replica) = pair(Program::Redis, ServerOptions::default()).await;
    let client = connect(&master).await;
    let within = |timeout| {
        let payments = crate::idempotent::builder(&client);
        payments.confirmed_by_replicas(1, timeout).build().unwrap()
    };
    let payments = within(15 * SECOND);
    let theirs = async |field: &str| {
        let key = "idempotent:payments:{3:ann:k}";
        let reply = replica.raw(&["HEXISTS", key, field]).await.unwrap();
        reply.int() == Some(1)
    };
    let work = async {
        assert!(theirs("o").await, "the replica knows that it was begun");
        Ok::<_, ()>(1)
    };
    let first = payments.run("ann", "k", "", work).await.unwrap();
    assert!(first.is_kept && theirs("v").await, "and has the result");

    // A replica that hangs confirms nothing: nothing is begun, and the key is free.
    replica.stop().unwrap();
    let work = async { panic!("it is begun") };
    let hasty = within(SECOND / 5);
    let refused = hasty.run::<u32, (), _>("ann", "other", "", work).await;
    let Err(IdempotentError::NotExecuted(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(error, Error::NotConfirmed { .. }), "{error:?}");
    let left = master.raw(&["EXISTS", "idempotent:payments:{3:ann:other}"]);
    assert_eq!(left.await.unwrap().int(), Some(0));
    replica.cont().unwrap();
    // One that hangs meanwhile: the caller has the result, and is told that it may be lost.
    let work = async {
        replica.stop().unwrap();
        Ok::<_, ()>(2)
    };
    let back = payments.run("ann", "back", "", async { Ok::<_, ()>(0) });
    assert!(back.await.unwrap().is_kept, "the replica is back");
    let done = within(2 * SECOND).run("ann", "third", "", work).await;
    let done = done.unwrap();
    assert!(done.value == 2 && !done.is_kept);
    replica.cont().unwrap();
    let work = async { panic!("it is begun") };
    let again = payments
        .run::<u32, (), _>("ann", "third", "", work)
        .await
        .unwrap();
    assert!(again.is_replayed && again.value == 2);
}

redkit_testkit::suite! {
    async fn a_confirmation_that_cannot_be_had_is_refused(fixture: Fixture) {
        let client = &fixture.client;
        let wrong = [
            builder(client).confirmed_by_replicas(0, SECOND),
            builder(client).confirmed_on_disk(false, 0, SECOND),
            builder(client).confirmed_by_replicas(1, Duration::ZERO),
            builder(client).confirmed_by_replicas(1, 6 * SECOND),
        ];
        for builder in wrong {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().contains("confirmation"), "{error}");
        }
        let payments = || crate::idempotent::builder(client);
        for builder in [
            payments().confirmed_by_replicas(0, SECOND),
            payments().confirmed_on_disk(false, 0, SECOND),
            payments().confirmed_by_replicas(1, 16 * SECOND),
        ] {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().contains("confirmation"), "{error}");
        }
        let valid = builder(client).confirmed_by_replicas(100, Duration::from_millis(20)).build();
        if client.topology() == Topology::Embedded {
            let error = valid.unwrap_err();
            assert!(error.to_string().contains("no replicas"), "{error}");
            return;
        }
        // Also with the keys of several nodes.
        let locks = valid.unwrap();
        for n in 0..6 {
            let error = locks.try_acquire(format!("k{n}")).await.unwrap_err();
            assert!(matches!(error, Error::NotConfirmed { wanted: 100, .. }), "{error:?}");
            assert!(locks.inspect(format!("k{n}")).await.unwrap().is_none());
        }
        let keys = (0..6).map(|n| format!("k{n}"));
        let error = locks.acquire_all(keys, SECOND).await.unwrap_err();
        assert!(matches!(error, Error::NotConfirmed { .. }), "{error:?}");
    }
}

/// The link to the replica hangs, the master gives the lock to A and dies, and the replica takes over: it knows nothing
/// of A, and gives the lock to B.
#[tokio::test]
async fn a_failover_that_lost_the_lock_gives_a_greater_fence() {
    let options = ServerOptions::default();
    let master = Server::redis(options.clone()).await.unwrap();
    let proxy = Proxy::start(master.addr()).await.unwrap();
    let replica = replica_of(&master, proxy.addr().port(), Program::Redis, options).await;
    let before = manager(&connect(&master).await);
    // The replica knows an earlier fence: one that only counted on would now give the same number twice.
    let first = before.try_acquire("k").await.unwrap();
    let first_fence = first.fence();
    first.release().await.unwrap();
    assert_eq!(
        master.raw(&["WAIT", "1", "1000"]).await.unwrap().int(),
        Some(1)
    );
    proxy.black_hole();
    let a = before.try_acquire("k").await.unwrap();
    master.kill9().await;
    replica.raw(&["REPLICAOF", "NO", "ONE"]).await.unwrap();

    let client = connect(&replica).await;
    let after = manager(&client);
    let b = after.try_acquire("k").await.expect("the lock was lost");
    assert!(
        first_fence < a.fence() && a.fence() < b.fence(),
        "{a:?} {b:?}"
    );
    let register = FencedRegister::new(&client, "data").unwrap();
    register
        .write("k", a.fence(), "of A, in time")
        .await
        .unwrap();
    register.write("k", b.fence(), "of B").await.unwrap();
    let late = register.write("k", a.fence(), "of A, late").await;
    assert!(matches!(late, Err(Error::Fenced { newer }) if newer == b.fence()));
    assert_eq!(
        register.read::<String>("k").await.unwrap().unwrap().value,
        "of B"
    );
}
