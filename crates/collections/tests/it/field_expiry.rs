//! Times to live of single fields: where the server has them they work; where it does not, the error
//! says what is needed.

use std::time::Duration;

use redkit_collections::{Error, Hash, Lifetime};
use redkit_core::{ErrorKind, Ttl};
use redkit_testkit::Fixture;

const MINUTE: Duration = Duration::from_secs(60);

fn is_clear<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    let Error::Unsupported { needs, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*needs, "Redis 7.4 or Valkey 9.0");
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Server, false)
    );
    assert!(error.to_string().contains("this server is"), "{error}");
}

redkit_testkit::suite! {
    async fn fields_expire_or_the_error_says_what_is_needed(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u32> = Hash::new(&fixture.client, "h");
        hash.set_many([("a", &1), ("b", &2)]).await?;
        if !fixture.client.capabilities().field_expiry {
            is_clear(hash.expire_fields(["a"], MINUTE).await);
            is_clear(hash.fields_time_left(["a"]).await);
            is_clear(hash.persist_fields(["a"]).await);
            is_clear(hash.set_expiring("c", &3, MINUTE).await);
            assert_eq!(hash.len().await?, 2, "nothing was written");
            return Ok(());
        }
        assert_eq!(hash.expire_fields(["a", "x"], MINUTE).await?, [true, false]);
        let times = hash.fields_time_left(["a", "b", "x"]).await?;
        assert!(matches!(times[0], Ttl::In(left) if left <= MINUTE && left > MINUTE / 2), "{times:?}");
        assert_eq!(times[1..], [Ttl::Forever, Ttl::Absent]);
        assert_eq!(hash.persist_fields(["a", "b", "x"]).await?, [true, false, false]);
        assert_eq!(hash.fields_time_left(["a"]).await?, [Ttl::Forever]);
        assert!(hash.set_expiring("c", &3, MINUTE).await? && !hash.set_expiring("c", &4, MINUTE).await?);
        assert!(matches!(hash.fields_time_left(["c"]).await?[0], Ttl::In(_)));
        assert_eq!(hash.get("c").await?, Some(4));
        hash.set("c", &5).await?;
        assert_eq!(hash.fields_time_left(["c"]).await?, [Ttl::Forever], "a plain set takes it away");
        let nowhere: Hash<u32> = Hash::new(&fixture.client, "nowhere");
        assert_eq!(nowhere.expire_fields(["a", "b"], MINUTE).await?, [false, false]);
        assert_eq!(nowhere.fields_time_left(["a", "b"]).await?, [Ttl::Absent; 2]);
        let timed = nowhere.with_ttl(Lifetime::on_create(MINUTE * 2)?);
        timed.set_expiring("a", &1, MINUTE).await?;
        assert!(matches!(timed.time_left().await?, Ttl::In(left) if left > MINUTE));
        Ok(())
    }

    async fn times_that_cannot_work_are_refused_everywhere(fixture: Fixture) -> Result<(), Error> {
        let hash: Hash<u32> = Hash::new(&fixture.client, "h");
        for time in [Duration::ZERO, Duration::MAX] {
            for error in [
                hash.expire_fields(["a"], time).await.unwrap_err(),
                hash.set_expiring("a", &1, time).await.map(drop).unwrap_err(),
            ] {
                assert!(matches!(error, Error::Invalid { what: "time", .. }), "{error}");
            }
        }
        assert!(hash.expire_fields::<&str>([], MINUTE).await?.is_empty());
        Ok(())
    }

    #[paused]
    async fn a_field_ends_with_its_time(fixture: Fixture) -> Result<(), Error> {
        if !fixture.client.capabilities().field_expiry {
            let hash: Hash<u32> = Hash::new(&fixture.client, "h");
            is_clear(hash.set_expiring("a", &1, MINUTE).await);
            return Ok(());
        }
        let hash: Hash<u32> = Hash::new(&fixture.client, "h");
        hash.set_expiring("a", &1, MINUTE).await?;
        hash.set("b", &2).await?;
        tokio::time::advance(MINUTE + Duration::from_millis(1)).await;
        assert_eq!(hash.get_many(["a", "b"]).await?, [None, Some(2)]);
        Ok(())
    }
}
