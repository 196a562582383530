//! Randomness: jitter, tokens and ids of all crates come from here, and from nowhere else.
//!
//! It is the thread's cryptographically secure generator, seeded by the operating system. With the
//! feature `simulation` a thread can be given another one, so that a simulated run can be repeated
//! from its seed. Without that feature nothing of it is compiled in.

use std::io;
use std::time::SystemTime;

use rand::TryRng as _;
use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::SysRng;

#[cfg(feature = "simulation")]
pub use self::replaceable::replace_source;

/// A random value of a type: any integer, a float in `0..1`, an array of these.
///
/// ```
/// let id: u64 = redkit_core::random::random();
/// # let _ = id;
/// ```
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    #[cfg(feature = "simulation")]
    return replaceable::draw(|source| StandardUniform.sample(source));
    #[cfg(not(feature = "simulation"))]
    rand::random()
}

/// A random value of a range, each as likely as any other.
///
/// # Panics
/// With an empty range.
pub fn random_range<T, R>(range: R) -> T
where
    T: SampleUniform,
    R: SampleRange<T>,
{
    #[cfg(feature = "simulation")]
    return replaceable::draw(|source| range.sample_single(source).unwrap_or_else(empty));
    #[cfg(not(feature = "simulation"))]
    rand::random_range(range)
}

/// Fills `bytes` for a secret: directly by the operating system.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn fill_secret(bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if replaceable::fill(bytes) {
        return Ok(());
    }
    SysRng.try_fill_bytes(bytes).map_err(io::Error::other)
}

/// Milliseconds since 1970 by this machine's clock, for ids that sort by the time at which they were made.
/// With a replaced source it is always the same, so that ids follow from the seed.
pub fn id_millis() -> u64 {
    #[cfg(feature = "simulation")]
    if replaceable::is_replaced() {
        return 0;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// The operating system's number of this process, for owners that people read. With a replaced source it is
/// always the same.
pub fn process_number() -> u32 {
    #[cfg(feature = "simulation")]
    if replaceable::is_replaced() {
        return 0;
    }
    std::process::id()
}

#[cfg(feature = "simulation")]
#[expect(clippy::panic, reason = "documented, and as `rand::random_range` does")]
fn empty<T>(error: rand::distr::uniform::Error) -> T {
    panic!("a random value of an empty range: {error}")
}

#[cfg(feature = "simulation")]
mod replaceable {
    use std::cell::RefCell;

    use rand::Rng;

    thread_local! {
        static SOURCE: RefCell<Option<Box<dyn Rng>>> = const { RefCell::new(None) };
    }

    /// Puts another source in place of this thread's, and gives the one that was there; with `None`
    /// the thread draws from its own again. For simulations alone: ids and tokens are as
    /// predictable as the source is.
    ///
    /// ```
    /// use rand::SeedableRng;
    /// use rand::rngs::Xoshiro256PlusPlus;
    /// use redkit_core::random::{random, replace_source};
    ///
    /// let draw = || {
    ///     replace_source(Some(Box::new(Xoshiro256PlusPlus::seed_from_u64(7))));
    ///     let drawn: u64 = random();
    ///     replace_source(None);
    ///     drawn
    /// };
    /// assert_eq!(draw(), draw());
    /// ```
    pub fn replace_source(source: Option<Box<dyn Rng>>) -> Option<Box<dyn Rng>> {
        SOURCE.replace(source)
    }

    pub(super) fn draw<T>(draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        SOURCE.with_borrow_mut(|source| match source {
            Some(source) => draw(&mut **source),
            None => draw(&mut rand::rng()),
        })
    }

    pub(super) fn is_replaced() -> bool {
        SOURCE.with_borrow(Option::is_some)
    }

    /// Gives whether there is another source than the thread's own.
    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        SOURCE.with_borrow_mut(|source| match source {
            Some(source) => {
                source.fill_bytes(bytes);
                true
            }
            None => false,
        })
    }
}
