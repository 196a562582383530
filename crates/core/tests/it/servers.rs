//! Each server is asked by itself, past its breaker.

use redkit_core::{Command, Error, FaultKind};
use redkit_testkit::Fixture;

redkit_testkit::suite! {
    async fn a_server_is_asked_past_its_breaker(fixture: Fixture) {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        client.call::<()>(Command::new("PING")).await.unwrap();
        client.breaker().force_open();
        let error = client.call::<()>(Command::new("PING")).await.unwrap_err();
        assert!(error.to_string().contains("breaker"), "{error}");
        let servers = client.servers();
        let masters = match fixture.cluster() {
            Some(cluster) => cluster.masters().await.unwrap().len(),
            None => 1,
        };
        assert_eq!(servers.len(), masters);
        for slot in 0..16_384 {
            assert_eq!(servers.iter().filter(|server| server.serves(slot)).count(), 1, "{slot}");
        }
        let before = client.stats();
        for (number, server) in servers.iter().enumerate() {
            client.call_server::<()>(&server.name, Command::new("PING")).await.unwrap();
            let tag = (0..).find(|tag| {
                server.serves(redkit_core::slot(format!("{{{tag}}}").as_bytes()))
            });
            let key = client.key(format!("{{{}}}", tag.unwrap()));
            let set = Command::new("SET").key(&key).arg(number);
            client.call_server::<()>(&server.name, set).await.unwrap();
            let got: usize = client.call_server(&server.name, Command::new("GET").key(&key)).await.unwrap();
            assert_eq!(got, number);
            let known = client.breaker().nodes();
            assert!(known.iter().any(|node| node.node == server.name), "{known:?} {server:?}");
        }
        assert_eq!(client.stats(), before);
        if fixture.cluster().is_some() {
            let unknown = client.call_server::<()>("nowhere:1", Command::new("PING")).await;
            let Err(Error::Call { error, .. }) = unknown else { panic!("{unknown:?}") };
            assert_eq!(error.fault().unwrap().kind(), FaultKind::Invalid);
        }
        client.shutdown().await;
    }

    async fn a_connection_of_ones_own_is_to_the_server_that_was_named(fixture: Fixture) {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        for number in 0..50 {
            client.set(format!("k:{number}"), &number).await.unwrap();
        }
        let servers = client.servers();
        for server in &servers {
            let own = client.dedicated_to(&server.name).await.unwrap();
            for number in 0..50 {
                let key = client.key(format!("k:{number}"));
                let got = own.call::<u32>(Command::new("GET").key(&key)).await;
                match server.serves(redkit_core::slot(key.as_bytes())) {
                    true => assert_eq!(got.unwrap(), number),
                    false => {
                        let error = got.unwrap_err();
                        let refusal = error.call_error().and_then(|error| error.server_error());
                        assert_eq!(refusal.unwrap().code(), "MOVED", "{error}");
                    }
                }
            }
            // It has one user, who may change it.
            own.call::<()>(Command::new("MULTI")).await.unwrap();
            own.call::<()>(Command::new("DISCARD")).await.unwrap();
        }
        if fixture.cluster().is_some() {
            let error = client.dedicated_to("nowhere:1").await.unwrap_err();
            let fault = error.call_error().and_then(|error| error.fault());
            assert_eq!(fault.unwrap().kind(), FaultKind::Invalid, "{error}");
        }
        client.shutdown().await;
        let error = client.dedicated_to(&servers[0].name).await.unwrap_err();
        let fault = error.call_error().and_then(|error| error.fault());
        assert_eq!(fault.unwrap().kind(), FaultKind::Shutdown, "{error}");
    }
}
