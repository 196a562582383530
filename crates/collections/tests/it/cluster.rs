//! Several keys in one operation: on a cluster they share a slot, or the operation is refused before
//! it is sent.

use std::time::Duration;

use redkit_collections::{Combine, End, Error, Lifetime, List, Order, Select, Set, SortedSet};
use redkit_core::{Command, Error as CoreError, ErrorKind, FaultKind, Script, Topology, Value};
use redkit_testkit::Fixture;

static TWO_KEYS: Script = Script::new("return #KEYS");

/// On a cluster it was refused, on anything else done.
fn settled<T: std::fmt::Debug>(fixture: &Fixture, result: Result<T, Error>) {
    if fixture.client.topology() != Topology::Cluster {
        result.unwrap();
        return;
    }
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.is_maybe()), (ErrorKind::Usage, false));
    let shown = error.to_string();
    assert!(
        shown.contains(":one`") && shown.contains(":two`") && shown.contains("hash tag"),
        "{shown}"
    );
}

redkit_testkit::suite! {
    async fn keys_of_different_slots_are_refused_before_they_are_sent(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        // Their slots differ whatever the namespace: the tags do.
        let ttl = Lifetime::on_create(Duration::from_secs(60))?;
        let (a, b): (Set<u8>, Set<u8>) = (Set::new(client, "{a}:one")?, Set::new(client, "{b}:two")?);
        assert_ne!(a.key().slot(), b.key().slot());
        client.reset_stats();
        settled(&fixture, a.union([&b]).await);
        settled(&fixture, a.intersection([&b]).await);
        settled(&fixture, a.difference([&b]).await);
        settled(&fixture, a.intersection_len([&b], None).await);
        settled(&fixture, a.store_union([&b]).await);
        settled(&fixture, a.clone().with_ttl(ttl).store_union([&b]).await);
        settled(&fixture, a.store_intersection([&b]).await);
        settled(&fixture, a.store_difference([&b]).await);
        settled(&fixture, a.move_to(&b, &1).await);
        settled(&fixture, a.move_to(&b.clone().with_ttl(ttl), &1).await);
        let a: SortedSet<u8> = SortedSet::new(client, "{a}:z:one")?;
        let b: SortedSet<u8> = SortedSet::new(client, "{b}:z:two")?;
        settled(&fixture, a.union([&b], &Combine::sum()).await);
        settled(&fixture, a.intersection([&b], &Combine::sum()).await);
        settled(&fixture, a.difference([&b]).await);
        settled(&fixture, a.intersection_len([&b], Some(3)).await);
        settled(&fixture, a.store_union([&b], &Combine::sum()).await);
        settled(&fixture, a.store_intersection([&b], &Combine::sum()).await);
        settled(&fixture, a.store_difference([&b]).await);
        settled(&fixture, a.store_range_by_rank(&b, .., Order::Ascending).await);
        settled(&fixture, a.store_range_by_score(&b, .., Select::ascending()).await);
        settled(&fixture, a.store_range_by_member(&b, .., Select::ascending()).await);
        let (a, b): (List<u8>, List<u8>) = (List::new(client, "{a}:l:one"), List::new(client, "{b}:l:two"));
        settled(&fixture, a.move_to(&b, End::Front, End::Back).await);
        settled(&fixture, a.move_to(&b.clone().with_ttl(ttl), End::Front, End::Back).await);
        let mut consumer = a.consumer().await?;
        settled(&fixture, consumer.move_to(&b, End::Front, End::Back, Duration::from_millis(20)).await);
        if client.topology() == Topology::Cluster {
            assert_eq!(client.stats().calls(), 0, "nothing was sent");
        }
        Ok(())
    }

    /// They may be of different servers, and only one of them would be asked.
    async fn handles_of_different_clients_are_refused(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let other = &fixture.connect(fixture.config().unwrap()).await.unwrap();
        let mut refused = Vec::new();
        let (a, b): (Set<u8>, Set<u8>) = (Set::new(client, "{d}:a")?, Set::new(other, "{d}:b")?);
        client.reset_stats();
        refused.push(a.union([&b]).await.map(drop));
        refused.push(a.intersection([&b]).await.map(drop));
        refused.push(a.difference([&b]).await.map(drop));
        refused.push(a.intersection_len([&b], None).await.map(drop));
        refused.push(a.store_union([&a, &b]).await.map(drop));
        refused.push(a.store_intersection([&b]).await.map(drop));
        refused.push(a.store_difference([&b]).await.map(drop));
        refused.push(a.move_to(&b, &1).await.map(drop));
        let (a, b): (SortedSet<u8>, SortedSet<u8>) = (SortedSet::new(client, "{d}:za")?, SortedSet::new(other, "{d}:zb")?);
        refused.push(a.union([&b], &Combine::sum()).await.map(drop));
        refused.push(a.intersection([&b], &Combine::sum()).await.map(drop));
        refused.push(a.difference([&b]).await.map(drop));
        refused.push(a.intersection_len([&b], Some(3)).await.map(drop));
        refused.push(a.store_union([&a, &b], &Combine::sum()).await.map(drop));
        refused.push(a.store_intersection([&b], &Combine::sum()).await.map(drop));
        refused.push(a.store_difference([&b]).await.map(drop));
        refused.push(a.store_range_by_rank(&b, .., Order::Ascending).await.map(drop));
        refused.push(a.store_range_by_score(&b, .., Select::ascending()).await.map(drop));
        refused.push(a.store_range_by_member(&b, .., Select::ascending()).await.map(drop));
        let (a, b): (List<u8>, List<u8>) = (List::new(client, "{d}:la"), List::new(other, "{d}:lb"));
        refused.push(a.move_to(&b, End::Front, End::Back).await.map(drop));
        let mut consumer = a.consumer().await?;
        refused.push(consumer.move_to(&b, End::Front, End::Back, Duration::ZERO).await.map(drop));
        for result in refused {
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Invalid { what: "client", .. }), "{error}");
            assert!(error.to_string().contains("different clients"), "{error}");
        }
        assert_eq!(client.stats().calls(), 0, "nothing was sent");
        // A clone, another namespace and another codec are the same client.
        let b: List<u8> = List::new(&client.with_namespace("inner").unwrap(), "{d}:lb");
        assert_eq!(a.move_to(&b, End::Front, End::Back).await?, None);
        other.shutdown().await;
        Ok(())
    }

    async fn core_refuses_them_too(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let keys = [client.key("{a}"), client.key("{b}")];
        let direct = client.call::<Value>(Command::new("SUNION").keys_from(&keys)).await;
        let script = client.eval::<i64>(TWO_KEYS.invoke(&keys)).await.map(Value::Int);
        if client.topology() != Topology::Cluster {
            direct?;
            script?;
            return Ok(());
        }
        for error in [direct.unwrap_err(), script.unwrap_err()] {
            let CoreError::Call { error, .. } = &error else { panic!("{error}") };
            assert_eq!(error.fault().unwrap().kind(), FaultKind::Invalid, "{error}");
            assert!(error.to_string().contains("hash tag"), "{error}");
        }
        Ok(())
    }

    async fn a_hash_tag_brings_them_together(fixture: Fixture) -> Result<(), Error> {
        // Enough tags for every node of a cluster.
        for n in 0..12_u8 {
            let set = |role| Set::<u8>::new(&fixture.client, format!("{{user:{n}}}:{role}"));
            let (friends, blocked, both) = (set("friends")?, set("blocked")?, set("both")?);
            friends.add_many(&[1, 2, n]).await?;
            blocked.add(&n).await?;
            let timed = both.clone().with_ttl(Lifetime::on_create(Duration::from_secs(60))?);
            assert_eq!(timed.store_intersection([&friends, &blocked]).await?, 1);
            assert_eq!(both.members().await?, [n]);
        }
        Ok(())
    }
}
