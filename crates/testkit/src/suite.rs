//! [`suite!`](crate::suite!): one test body on every backend chosen.

mod fixture;
mod home;
mod selection;

use std::fmt;
use std::time::Duration;

pub use self::fixture::Fixture;
use crate::Error;
use redkit_core::Driver;
use selection::Selection;

/// What a test of a suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The engine in the process.
    Embedded,
    /// A Redis, through the `native` driver.
    Redis,
    /// A Valkey, through the `native` driver.
    Valkey,
    /// A Redis of the newest series (8.4 or later), through the `native` driver.
    Redis8,
    /// A Valkey of the newest series (9.0 or later), through the `native` driver.
    Valkey9,
    /// A Redis with TLS and a password, through the `native` driver.
    Tls,
    /// A cluster of three Redis masters, through the `native` driver.
    Cluster,
    /// A cluster of three Valkey masters, through the `native` driver.
    ValkeyCluster,
    /// A Redis with a replica, found through three sentinels, through the `native` driver.
    Sentinel,
    /// A Redis, through the `fred` driver.
    Fred,
    /// A Redis with a replica, found through three sentinels, through the `fred` driver.
    FredSentinel,
}

impl BackendKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Embedded,
        Self::Redis,
        Self::Valkey,
        Self::Redis8,
        Self::Valkey9,
        Self::Tls,
        Self::Cluster,
        Self::ValkeyCluster,
        Self::Sentinel,
        Self::Fred,
        Self::FredSentinel,
    ];

    /// The name in `REDKIT_TEST_BACKENDS`.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Embedded => "embedded",
            BackendKind::Redis => "redis",
            BackendKind::Valkey => "valkey",
            BackendKind::Redis8 => "redis8",
            BackendKind::Valkey9 => "valkey9",
            BackendKind::Tls => "tls",
            BackendKind::Cluster => "cluster",
            BackendKind::ValkeyCluster => "valkey_cluster",
            BackendKind::Sentinel => "sentinel",
            BackendKind::Fred => "fred",
            BackendKind::FredSentinel => "fred_sentinel",
        }
    }

    /// What carries the commands, where it is not the `native` driver.
    fn driver(self) -> Driver {
        match self {
            BackendKind::Fred | BackendKind::FredSentinel => Driver::Fred,
            _ => Driver::Native,
        }
    }

    /// Whether a server in another process answers.
    pub fn is_networked(self) -> bool {
        self != BackendKind::Embedded
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The runtime of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// One thread.
    CurrentThread,
    /// Four threads.
    MultiThread,
    /// One thread and a paused clock, which jumps to the next timer when there is nothing to do.
    Paused,
}

impl Runtime {
    fn build(self) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
            Runtime::CurrentThread | Runtime::Paused => {
                tokio::runtime::Builder::new_current_thread()
            }
        };
        if self == Runtime::MultiThread {
            builder.worker_threads(4);
        }
        builder
            .enable_all()
            .start_paused(self == Runtime::Paused)
            .build()
    }

    /// How long a test may take, so that one that hangs fails with its name. A paused clock gets
    /// there at once when nothing else is left to wait for.
    fn patience(self) -> Duration {
        match self {
            Runtime::Paused => Duration::from_secs(400 * 24 * 60 * 60),
            Runtime::CurrentThread | Runtime::MultiThread => Duration::from_secs(300),
        }
    }
}

/// What the body of a test may give: nothing, or a result.
pub trait Outcome {
    /// An error's text.
    ///
    /// # Errors
    /// [`Error::Body`] when the body gave an error.
    fn outcome(self) -> Result<(), Error>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<E: fmt::Debug> Outcome for Result<(), E> {
    fn outcome(self) -> Result<(), Error> {
        self.map_err(|error| Error::Body(format!("{error:?}")))
    }
}

/// Runs `body` on a backend, or says that the backend was not chosen. What [`suite!`](crate::suite!)
/// expands to.
///
/// # Errors
/// [`Error`] when the backend was asked for and is not there, when the body gives an error, and
/// when it does not end.
pub fn run<B, F>(kind: BackendKind, runtime: Runtime, body: B) -> Result<(), Error>
where
    B: FnOnce(Fixture) -> F,
    F: Future<Output: Outcome>,
{
    match Selection::from_env(kind)? {
        Selection::Chosen => drive(kind, runtime, body),
        Selection::LeftOut(why) => {
            println!("not chosen: {why}");
            Ok(())
        }
    }
}

fn drive<B, F>(kind: BackendKind, runtime: Runtime, body: B) -> Result<(), Error>
where
    B: FnOnce(Fixture) -> F,
    F: Future<Output: Outcome>,
{
    let patience = runtime.patience();
    let runtime = runtime.build().map_err(Error::io("making a runtime"))?;
    let result = runtime.block_on(async {
        let fixture = Fixture::new(kind).await?;
        tokio::time::timeout(patience, body(fixture))
            .await
            .map_err(|_| Error::Body(format!("the test did not end within {patience:?}")))?
            .outcome()
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Declares tests that run on every backend chosen.
///
/// Each function becomes a module of its name with one test per backend, so `round_trips` below is
/// reported as `round_trips::embedded`, `round_trips::redis` and so on. Attributes directly before
/// the function, in this order, say how it runs:
///
/// - `#[paused]`: on a paused clock. Embedded only: a server's time does not stop.
/// - `#[networked]`: only where one server is behind the client, so on none that has several.
/// - `#[multi_thread]`: on a runtime with four threads.
///
/// ```
/// use redkit_core::Command;
/// use redkit_testkit::Fixture;
///
/// redkit_testkit::suite! {
///     async fn round_trips(fixture: Fixture) -> Result<(), redkit_core::Error> {
///         let key = fixture.client.key("k");
///         fixture.client.call::<()>(Command::new("SET").key(&key).arg("v")).await?;
///         Ok(())
///     }
///
///     #[paused]
///     async fn a_day_passes(fixture: Fixture) {
///         tokio::time::sleep(std::time::Duration::from_secs(86_400)).await;
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    () => {};
    (@tests $name:ident $runtime:ident $($test:ident = $kind:ident),*) => {
        mod $name {
            $(
                #[test]
                fn $test() -> ::std::result::Result<(), $crate::Error> {
                    $crate::run(
                        $crate::BackendKind::$kind,
                        $crate::Runtime::$runtime,
                        super::$name,
                    )
                }
            )*
        }
    };
    (@all $name:ident $runtime:ident) => {
        $crate::suite! {
            @tests $name $runtime
            embedded = Embedded, redis = Redis, valkey = Valkey, redis8 = Redis8, valkey9 = Valkey9,
            tls = Tls, cluster = Cluster, valkey_cluster = ValkeyCluster, sentinel = Sentinel, fred = Fred,
            fred_sentinel = FredSentinel
        }
    };
    (@networked $name:ident $runtime:ident) => {
        $crate::suite! {
            @tests $name $runtime
            redis = Redis, valkey = Valkey, redis8 = Redis8, valkey9 = Valkey9, tls = Tls, fred = Fred
        }
    };
    (@paused $name:ident) => {
        $crate::suite! { @tests $name Paused embedded = Embedded }
    };
    (
        $(#[doc = $doc:literal])*
        #[paused]
        async fn $name:ident($($arguments:tt)*) $(-> $output:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        async fn $name($($arguments)*) $(-> $output)? $body
        $crate::suite! { @paused $name }
        $crate::suite! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        #[networked]
        async fn $name:ident($($arguments:tt)*) $(-> $output:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        async fn $name($($arguments)*) $(-> $output)? $body
        $crate::suite! { @networked $name CurrentThread }
        $crate::suite! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        #[networked]
        #[multi_thread]
        async fn $name:ident($($arguments:tt)*) $(-> $output:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        async fn $name($($arguments)*) $(-> $output)? $body
        $crate::suite! { @networked $name MultiThread }
        $crate::suite! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        #[multi_thread]
        async fn $name:ident($($arguments:tt)*) $(-> $output:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        async fn $name($($arguments)*) $(-> $output)? $body
        $crate::suite! { @all $name MultiThread }
        $crate::suite! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        async fn $name:ident($($arguments:tt)*) $(-> $output:ty)? $body:block
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        async fn $name($($arguments)*) $(-> $output)? $body
        $crate::suite! { @all $name CurrentThread }
        $crate::suite! { $($rest)* }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_fails_by_its_error_and_by_never_ending() {
        type Body =
            fn(Fixture) -> std::pin::Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;
        let run = |body: Body| drive(BackendKind::Embedded, Runtime::Paused, body);
        run(|_| Box::pin(async { Ok(()) })).unwrap();
        let error = run(|_| Box::pin(async { Err("boom") })).unwrap_err();
        assert_eq!(error.to_string(), "\"boom\"");
        let error = run(|_| Box::pin(std::future::pending())).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
