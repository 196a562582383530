//! Sorted sets: scores, ranks, ranges, algebra.

use std::collections::BTreeMap;
use std::ops::Bound;

use redkit_collections::{Add, AddIf, Combine, Error, Order, Select, SortedSet};
use redkit_core::{Command, Pattern};
use redkit_testkit::Fixture;

use Order::{Ascending, Descending};

type Board = SortedSet<String>;

async fn board(fixture: &Fixture, key: &str, members: &[(&str, f64)]) -> Result<Board, Error> {
    let board = SortedSet::new(&fixture.client, key)?;
    board.add_many(members.iter().copied()).await?;
    Ok(board)
}

/// Members with whole scores, as `a1 b2`.
fn shown(members: &[(String, f64)]) -> String {
    let shown: Vec<String> = members.iter().map(|(m, s)| format!("{m}{s}")).collect();
    shown.join(" ")
}

redkit_testkit::suite! {
    async fn members_have_scores(fixture: Fixture) -> Result<(), Error> {
        let board = board(&fixture, "z", &[]).await?;
        assert!(board.is_empty().await?);
        assert!(board.add("a", 1.0).await? && !board.add("a", 2.0).await?);
        assert_eq!(board.add_many([("b", -0.5), ("c", 1e300), ("a", 0.1 + 0.2)]).await?, 2);
        assert_eq!(board.score("a").await?, Some(0.1 + 0.2));
        assert_eq!(board.scores(["c", "x", "b"]).await?, [Some(1e300), None, Some(-0.5)]);
        assert!(board.scores::<str>([]).await?.is_empty());
        assert!((board.increment("b", 2.0).await? - 1.5).abs() < 1e-12);
        assert!((board.increment("new", 4.0).await? - 4.0).abs() < 1e-12);
        assert_eq!(board.len().await?, 4);
        assert!(board.remove("a").await? && !board.remove("a").await?);
        assert_eq!(board.remove_many(["b", "c", "x", "new"]).await?, 3);
        assert!(!board.exists().await?);
        Ok(())
    }

    async fn infinite_scores_are_scores_and_nan_is_refused(fixture: Fixture) -> Result<(), Error> {
        let board = board(&fixture, "z", &[("top", f64::INFINITY), ("zero", -0.0), ("low", f64::NEG_INFINITY)]).await?;
        assert_eq!(board.score("top").await?, Some(f64::INFINITY));
        assert_eq!(board.scores(["low", "top"]).await?, [Some(f64::NEG_INFINITY), Some(f64::INFINITY)]);
        let all = board.range_by_score(.., Select::ascending()).await?;
        assert_eq!(shown(&all).replace("-0", "0"), "low-inf zero0 topinf");
        let finite = (Bound::Excluded(f64::NEG_INFINITY), Bound::Excluded(f64::INFINITY));
        assert_eq!(board.count_by_score(finite).await?, 1);
        assert_eq!(board.rank_with_score("top", Descending).await?, Some((0, f64::INFINITY)));
        let scanned: BTreeMap<String, f64> = board.scan(Pattern::all()).collect().await?.into_iter().collect();
        assert_eq!(scanned["low"], f64::NEG_INFINITY);

        fixture.client.reset_stats();
        let nan = f64::NAN;
        let errors = [
            board.add("a", nan).await.unwrap_err(),
            board.add_many([("a", 1.0), ("b", nan)]).await.unwrap_err(),
            board.increment("a", nan).await.unwrap_err(),
            board.increment_if(AddIf::Always, "a", nan).await.unwrap_err(),
            board.count_by_score(nan..).await.unwrap_err(),
            board.range_by_score(..nan, Select::ascending()).await.unwrap_err(),
            board.remove_by_score(nan..=nan).await.unwrap_err(),
            board.union([], &Combine::sum().weights([nan])).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
        assert_eq!(fixture.client.stats().calls(), 0, "nothing was sent");
        let error = board.increment("top", f64::NEG_INFINITY).await.unwrap_err();
        assert!(error.to_string().contains("NaN"), "{error}");
        assert_eq!(board.score("top").await?, Some(f64::INFINITY));
        Ok(())
    }

    async fn members_are_added_under_conditions(fixture: Fixture) -> Result<(), Error> {
        let scores = async |condition: AddIf, changed: bool| {
            let board = board(&fixture, "z", &[]).await?;
            board.clear().await?;
            board.add_many([("low", 10.0), ("high", 10.0), ("same", 10.0)]).await?;
            let mut add = Add::when(condition);
            if changed {
                add = add.count_changed();
            }
            let count = board.add_with(add, [("low", 5.0), ("high", 15.0), ("same", 10.0), ("new", 1.0)]).await?;
            let scores = board.scores(["low", "high", "same", "new"]).await?;
            Ok::<_, Error>((count, scores.into_iter().map(|s| s.unwrap_or(0.0)).collect::<Vec<_>>()))
        };
        let expected = [
            (AddIf::Always, 1, 3, [5.0, 15.0, 10.0, 1.0]),
            (AddIf::Absent, 1, 1, [10.0, 10.0, 10.0, 1.0]),
            (AddIf::Present, 0, 2, [5.0, 15.0, 10.0, 0.0]),
            (AddIf::Greater, 1, 2, [10.0, 15.0, 10.0, 1.0]),
            (AddIf::Less, 1, 2, [5.0, 10.0, 10.0, 1.0]),
            (AddIf::PresentAndGreater, 0, 1, [10.0, 15.0, 10.0, 0.0]),
            (AddIf::PresentAndLess, 0, 1, [5.0, 10.0, 10.0, 0.0]),
        ];
        for (condition, new, changed, after) in expected {
            assert_eq!(scores(condition, false).await?, (new, after.into()), "{condition:?}");
            assert_eq!(scores(condition, true).await?, (changed, after.into()), "{condition:?}");
        }
        let board = board(&fixture, "z", &[("a", 1.0)]).await?;
        assert_eq!(board.increment_if(AddIf::Greater, "a", -1.0).await?, None);
        assert_eq!(board.increment_if(AddIf::Greater, "a", 1.0).await?, Some(2.0));
        assert_eq!(board.increment_if(AddIf::Present, "x", 1.0).await?, None);
        assert_eq!(board.add_with::<str>(Add::when(AddIf::Absent).count_changed(), []).await?, 0);
        Ok(())
    }

    async fn members_have_ranks(fixture: Fixture) -> Result<(), Error> {
        let board = board(&fixture, "z", &[("a", 1.0), ("b", 2.5), ("c", 3.0)]).await?;
        assert_eq!((board.rank("a", Ascending).await?, board.rank("a", Descending).await?), (Some(0), Some(2)));
        assert_eq!(board.rank("x", Ascending).await?, None);
        assert_eq!(board.rank_with_score("b", Ascending).await?, Some((1, 2.5)));
        assert_eq!(board.rank_with_score("c", Descending).await?, Some((0, 3.0)));
        assert_eq!(board.rank_with_score("x", Descending).await?, None);
        Ok(())
    }

    async fn ranges_go_by_rank_and_score(fixture: Fixture) -> Result<(), Error> {
        let board = board(&fixture, "{z}", &[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0)]).await?;
        assert_eq!(shown(&board.range_by_rank(1..3, Ascending).await?), "b2 c3");
        assert_eq!(shown(&board.range_by_rank(..2, Descending).await?), "e5 d4");
        assert_eq!(shown(&board.range_by_rank(-2.., Ascending).await?), "d4 e5");
        assert!(board.range_by_rank(0..0, Ascending).await?.is_empty());

        let by = async |range: (Bound<f64>, Bound<f64>), select| {
            Ok::<_, Error>(shown(&board.range_by_score(range, select).await?))
        };
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(by((Included(2.0), Included(4.0)), Select::ascending()).await?, "b2 c3 d4");
        assert_eq!(by((Excluded(2.0), Excluded(4.0)), Select::descending()).await?, "c3");
        assert_eq!(by((Unbounded, Excluded(3.0)), Select::descending()).await?, "b2 a1");
        assert_eq!(by((Unbounded, Unbounded), Select::ascending().offset(1).limit(2)).await?, "b2 c3");
        assert_eq!(by((Unbounded, Unbounded), Select::descending().offset(3)).await?, "b2 a1");
        assert_eq!(by((Unbounded, Unbounded), Select::ascending().limit(0)).await?, "");
        assert_eq!(board.count_by_score(2.0..4.0).await?, 2);

        let target: Board = SortedSet::new(&fixture.client, "{z}:target")?;
        assert_eq!(target.store_range_by_rank(&board, ..2, Descending).await?, 2);
        assert_eq!(shown(&target.range_by_rank(.., Ascending).await?), "d4 e5");
        assert_eq!(target.store_range_by_score(&board, ..=2.0, Select::descending().limit(1)).await?, 1);
        assert_eq!(shown(&target.range_by_rank(.., Ascending).await?), "b2");
        assert_eq!(target.store_range_by_rank(&board, 0..0, Ascending).await?, 0);
        assert!(!target.exists().await?);

        assert_eq!(board.remove_by_rank(0..1).await?, 1);
        assert_eq!(board.remove_by_rank(0..0).await?, 0);
        assert_eq!(board.remove_by_score((Excluded(2.0), Excluded(4.0))).await?, 1);
        assert_eq!(shown(&board.range_by_rank(.., Ascending).await?), "b2 d4 e5");
        Ok(())
    }

    async fn ranges_go_by_member(fixture: Fixture) -> Result<(), Error> {
        let names = ["adam", "bea", "carl", "dora"];
        let index = board(&fixture, "{z}", &names.map(|name| (name, 0.0))).await?;
        let text = |text: &str| text.to_owned();
        assert_eq!(index.range_by_member(text("b")..text("d"), Select::ascending()).await?, ["bea", "carl"]);
        assert_eq!(index.range_by_member(text("bea")..=text("carl"), Select::descending()).await?, ["carl", "bea"]);
        let behind = (Bound::Excluded(text("bea")), Bound::Unbounded);
        assert_eq!(index.range_by_member(behind, Select::ascending().limit(1)).await?, ["carl"]);
        assert_eq!(index.range_by_member(.., Select::ascending().offset(3)).await?, ["dora"]);
        assert_eq!(index.count_by_member(..text("c")).await?, 2);
        let target: Board = SortedSet::new(&fixture.client, "{z}:target")?;
        assert_eq!(target.store_range_by_member(&index, text("c").., Select::ascending()).await?, 2);
        assert_eq!(index.remove_by_member(text("b")..=text("carl")).await?, 2);
        assert_eq!(index.range_by_member(.., Select::ascending()).await?, ["adam", "dora"]);
        Ok(())
    }

    async fn the_ends_are_taken(fixture: Fixture) -> Result<(), Error> {
        let board = board(&fixture, "z", &[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0)]).await?;
        assert_eq!(board.pop_min().await?, Some(("a".to_owned(), 1.0)));
        assert_eq!(board.pop_max().await?, Some(("e".to_owned(), 5.0)));
        assert_eq!(shown(&board.pop_max_many(2).await?), "d4 c3");
        assert_eq!(shown(&board.pop_min_many(2).await?), "b2");
        assert_eq!((board.pop_min().await?, board.pop_max().await?), (None, None));
        let add = Command::new("ZADD").key(board.key()).arg(7).arg("{");
        fixture.client.call::<i64>(add).await?;
        let error = board.pop_max().await.unwrap_err();
        let Error::Undecodable { taken, scores, .. } = &error else { panic!("{error}") };
        assert_eq!((taken, scores), (&vec!["{".into()], &vec![7.0]));
        Ok(())
    }

    async fn members_are_chosen_by_chance(fixture: Fixture) -> Result<(), Error> {
        let set: SortedSet<u32> = SortedSet::new(&fixture.client, "z")?;
        assert_eq!(set.random().await?, None);
        let members: Vec<u32> = (0..20).collect();
        set.add_many(members.iter().map(|n| (n, f64::from(*n) * 2.0))).await?;
        let chosen: BTreeMap<u32, u64> = set.random_many(7).await?.into_iter().map(|(n, s)| (n, s.to_bits())).collect();
        assert_eq!(chosen.len(), 7);
        assert!(chosen.iter().all(|(n, s)| (f64::from(*n) * 2.0).to_bits() == *s));
        assert_eq!(set.random_many(100).await?.len(), 20);
        assert!(set.random().await?.is_some());
        Ok(())
    }

    async fn sorted_sets_are_combined(fixture: Fixture) -> Result<(), Error> {
        let a = board(&fixture, "{z}:a", &[("x", 1.0), ("y", 2.0)]).await?;
        let b = board(&fixture, "{z}:b", &[("y", 10.0), ("z", 20.0)]).await?;
        let target: Board = SortedSet::new(&fixture.client, "{z}:target")?;
        assert_eq!(shown(&a.union([&b], &Combine::sum()).await?), "x1 y12 z20");
        assert_eq!(shown(&a.union([&b], &Combine::max().weights([10.0, 1.0])).await?), "x10 y20 z20");
        assert_eq!(shown(&a.intersection([&b], &Combine::min()).await?), "y2");
        assert_eq!(shown(&a.difference([&b]).await?), "x1");
        assert_eq!((a.intersection_len([&b], None).await?, a.intersection_len([&b], Some(0)).await?), (1, 0));
        assert_eq!(target.store_union([&a, &b], &Combine::sum().weights([1.0, 0.5])).await?, 3);
        assert_eq!(shown(&target.range_by_rank(.., Ascending).await?), "x1 y7 z10");
        assert_eq!(target.store_intersection([&a, &b], &Combine::sum()).await?, 1);
        assert_eq!(target.store_difference([&b, &a]).await?, 1);
        assert_eq!(shown(&target.range_by_rank(.., Ascending).await?), "z20");
        for error in [
            a.union([&b], &Combine::sum().weights([1.0])).await.unwrap_err(),
            target.store_union([], &Combine::sum()).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
        Ok(())
    }
}
