//! [`KeyExtractor`]: whose limit a request counts against.

use std::marker::PhantomData;

use http::HeaderName;
use http::request::Parts;

/// Says whose limit a request counts against. A function from a request's head to its key will do:
///
/// ```
/// use http::request::Parts;
/// use redkit_ratelimit::tower::KeyExtractor;
///
/// fn by_path() -> impl KeyExtractor {
///     |request: &Parts| Some(request.uri.path().as_bytes().to_vec())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whose limit a request counts against",
    label = "not a key extractor",
    note = "`ClientAddress`, `ByHeader`, `ByExtension` and `ForAll` are ones, and so is `|request: &Parts| -> Option<Vec<u8>> {{ … }}`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// The key; `None` when the request has none, for which the layer has
    /// [a rule](crate::tower::OnMissingKey). An empty key is none.
    fn key(&self, request: &Parts) -> Option<Vec<u8>>;

    /// Why a request cannot have a key whatever its client sends: a mistake in how the service was
    /// put together, with what to change. The layer logs it and answers 500. It is asked only when
    /// [`key`](Self::key) gave none; `None` says that the client left the key out.
    fn setup_mistake(&self, request: &Parts) -> Option<&'static str> {
        let _ = request;
        None
    }
}

impl<F: Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static> KeyExtractor for F {
    fn key(&self, request: &Parts) -> Option<Vec<u8>> {
        self(request)
    }
}

/// The value of a header, such as an API key. Clients choose it freely unless something before the
/// layer checks it: an attacker then has as many limits as they like.
#[derive(Debug, Clone)]
pub struct ByHeader(HeaderName);

impl ByHeader {
    /// The first header of this name.
    pub fn new(name: HeaderName) -> Self {
        Self(name)
    }
}

impl KeyExtractor for ByHeader {
    fn key(&self, request: &Parts) -> Option<Vec<u8>> {
        let value = request.headers.get(&self.0)?;
        Some(value.as_bytes().to_vec())
    }
}

/// The value that a layer before this one put into the request's extensions, such as the user who is logged
/// in.
pub struct ByExtension<T, F> {
    key: F,
    extension: PhantomData<fn(&T)>,
}

impl<T, F> ByExtension<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Vec<u8> + Send + Sync + 'static,
{
    /// `key` makes the key of an extension of type `T`.
    pub fn new(key: F) -> Self {
        Self {
            key,
            extension: PhantomData,
        }
    }
}

impl<T, F> KeyExtractor for ByExtension<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Vec<u8> + Send + Sync + 'static,
{
    fn key(&self, request: &Parts) -> Option<Vec<u8>> {
        request.extensions.get().map(&self.key)
    }
}

impl<T, F> std::fmt::Debug for ByExtension<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<T>())
    }
}

/// One limit for all requests together.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForAll;

impl KeyExtractor for ForAll {
    fn key(&self, _: &Parts) -> Option<Vec<u8>> {
        Some(b"all".to_vec())
    }
}
