//! Sets: members, chance, algebra.

use std::collections::BTreeSet;

use redkit_collections::{Error, Set};
use redkit_core::{Command, Pattern};
use redkit_testkit::Fixture;

fn sorted(mut members: Vec<String>) -> Vec<String> {
    members.sort();
    members
}

fn sets(fixture: &Fixture) -> Result<[Set<String>; 4], Error> {
    let set = |key: &str| Set::new(&fixture.client, key);
    Ok([set("{s}:a")?, set("{s}:b")?, set("{s}:c")?, set("{s}:d")?])
}

redkit_testkit::suite! {
    async fn members_are_there_once(fixture: Fixture) -> Result<(), Error> {
        let [a, ..] = sets(&fixture)?;
        assert!(a.is_empty().await? && a.members().await?.is_empty());
        assert!(a.add("x").await? && !a.add("x").await?);
        assert_eq!(a.add_many(["x", "y", "z", "y"]).await?, 2);
        assert_eq!(a.add_many::<str>([]).await?, 0);
        assert_eq!(a.len().await?, 3);
        assert!(a.contains("y").await? && !a.contains("q").await?);
        assert_eq!(a.contains_many(["z", "q", "x"]).await?, [true, false, true]);
        assert!(a.contains_many::<str>([]).await?.is_empty());
        assert_eq!(sorted(a.members().await?), ["x", "y", "z"]);
        assert!(a.remove("x").await? && !a.remove("x").await?);
        assert_eq!(a.remove_many(["y", "z", "q"]).await?, 2);
        assert!(!a.exists().await?);
        Ok(())
    }

    async fn members_are_chosen_and_taken_by_chance(fixture: Fixture) -> Result<(), Error> {
        let set: Set<u32> = Set::new(&fixture.client, "s")?;
        assert_eq!((set.random().await?, set.pop().await?), (None, None));
        assert!(set.random_repeated(3).await?.is_empty() && set.pop_many(3).await?.is_empty());
        let all: BTreeSet<u32> = (0..50).collect();
        set.add_many(&all).await?;
        assert!(all.contains(&set.random().await?.unwrap()));
        let chosen: BTreeSet<u32> = set.random_many(10).await?.into_iter().collect();
        assert_eq!(chosen.len(), 10);
        assert_eq!(set.random_repeated(200).await?.len(), 200);
        assert!(set.random_repeated(0).await?.is_empty());
        let mut taken: BTreeSet<u32> = set.pop_many(20).await?.into_iter().collect();
        taken.insert(set.pop().await?.unwrap());
        assert_eq!((taken.len(), set.len().await?), (21, 29));
        taken.extend(set.members().await?);
        assert_eq!(taken, all);
        Ok(())
    }

    async fn sets_are_combined(fixture: Fixture) -> Result<(), Error> {
        let [a, b, c, target] = sets(&fixture)?;
        a.add_many(["1", "2", "3", "4"]).await?;
        b.add_many(["3", "4", "5"]).await?;
        c.add_many(["4", "6"]).await?;
        assert_eq!(sorted(a.union([&b, &c]).await?), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(sorted(a.intersection([&b]).await?), ["3", "4"]);
        assert_eq!(sorted(a.difference([&b, &c]).await?), ["1", "2"]);
        assert_eq!(sorted(a.union([]).await?), ["1", "2", "3", "4"]);
        assert_eq!(a.intersection_len([&b], None).await?, 2);
        assert_eq!(a.intersection_len([&b], Some(1)).await?, 1);
        assert_eq!(a.intersection_len([&b], Some(0)).await?, 0, "none is not all");
        assert_eq!(target.store_union([&a, &b]).await?, 5);
        assert_eq!(target.store_intersection([&a, &b, &c]).await?, 1);
        assert_eq!(target.members().await?, ["4"]);
        assert_eq!(target.store_difference([&a, &b]).await?, 2);
        assert_eq!(sorted(target.members().await?), ["1", "2"]);
        assert_eq!(target.store_difference([&a, &a]).await?, 0);
        assert!(!target.exists().await?, "nothing in it, no key");
        let error = target.store_union([]).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { what: "sets", .. }), "{error}");
        Ok(())
    }

    async fn members_move(fixture: Fixture) -> Result<(), Error> {
        let [a, b, ..] = sets(&fixture)?;
        a.add_many(["1", "2"]).await?;
        assert!(a.move_to(&b, "1").await? && !a.move_to(&b, "1").await?);
        assert_eq!((a.members().await?, b.members().await?), (vec!["2".to_owned()], vec!["1".to_owned()]));
        Ok(())
    }

    async fn a_scan_finds_what_matches(fixture: Fixture) -> Result<(), Error> {
        let set: Set<String> = Set::new(&fixture.client, "s")?;
        let members: Vec<String> = (0..1000).map(|n| format!("m[{n}]")).collect();
        set.add_many(&members).await?;
        let found: BTreeSet<String> = set.scan(Pattern::all()).collect().await?.into_iter().collect();
        assert_eq!(found.len(), 1000);
        // As they are stored: JSON, with quotes.
        let found: BTreeSet<String> = set.scan(Pattern::prefix("\"m[7")).collect().await?.into_iter().collect();
        assert_eq!(found.len(), 111);
        Ok(())
    }

    async fn a_member_that_was_taken_and_cannot_be_read_is_not_lost(fixture: Fixture) -> Result<(), Error> {
        let [a, ..] = sets(&fixture)?;
        fixture.client.call::<i64>(Command::new("SADD").key(a.key()).arg("{")).await?;
        let error = a.pop().await.unwrap_err();
        assert!(matches!(&error, Error::Undecodable { taken, .. } if taken == &["{"]), "{error}");
        Ok(())
    }
}
