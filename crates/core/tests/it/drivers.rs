//! The same test through each networked driver.

/// Makes of each `async fn name(driver: Driver)` the tests `name::native` and `name::fred`, with the
/// arguments that `#[tokio::test]` takes.
macro_rules! each_driver {
    ($runtime:tt $($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test $runtime]
                async fn native() {
                    super::$name(redkit_core::Driver::Native).await;
                }

                #[tokio::test $runtime]
                async fn fred() {
                    super::$name(redkit_core::Driver::Fred).await;
                }
            }
        )*
    };
}
