//! [`Memoized`]: a function whose results are cached.

use std::error::Error as StdError;
use std::fmt;

use redkit_core::ToArg;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::error::Error;
use crate::fetched::{Fetched, Loaded};

/// A function together with the cache of its results, from [`Cache::memoize`].
pub struct Memoized<V, L> {
    cache: Cache<V>,
    function: L,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// Puts this cache before a function of one argument, which is the key.
    ///
    /// ```
    /// # use redkit_cache::{Cache, Error};
    /// # async fn price_from_database(id: u32) -> Result<u64, std::io::Error> { Ok(1999) }
    /// # async fn example(prices: Cache<u64>) -> Result<(), Error> {
    /// let price = prices.memoize(price_from_database);
    /// assert_eq!(*price.call(42).await?, 1999);
    /// # Ok(()) }
    /// ```
    pub fn memoize<L>(&self, function: L) -> Memoized<V, L> {
        Memoized {
            cache: self.clone(),
            function,
        }
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static, L> Memoized<V, L> {
    /// The function's result for `argument`, from the cache or by calling the function: see
    /// [`Cache::get_or_load`].
    ///
    /// # Errors
    /// As [`Cache::get_or_load`].
    pub async fn call<K, F, T, E>(&self, argument: K) -> Result<Fetched<V>, Error>
    where
        K: ToArg + Clone,
        L: Fn(K) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let load = || (self.function)(argument.clone());
        self.cache.get_or_load(argument.clone(), load).await
    }

    /// Forgets the result for `argument`: see [`Cache::invalidate`].
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn forget(&self, argument: impl ToArg) -> Result<bool, Error> {
        self.cache.invalidate(argument).await
    }

    /// The cache behind it.
    pub fn cache(&self) -> &Cache<V> {
        &self.cache
    }
}

impl<V, L> fmt::Debug for Memoized<V, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memoized")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
