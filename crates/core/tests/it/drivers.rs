//! The same test through each networked driver.

/// Makes of each `async fn name(driver: Driver)` the tests `name::redis` and `name::fred`, with the
/// arguments that `#[tokio::test]` takes.
macro_rules! each_driver {
    ($runtime:tt $($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test $runtime]
                async fn redis() {
                    super::$name(redkit_core::Driver::Redis).await;
                }

                #[tokio::test $runtime]
                async fn fred() {
                    super::$name(redkit_core::Driver::Fred).await;
                }
            }
        )*
    };
}
