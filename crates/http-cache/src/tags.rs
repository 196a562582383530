//! [`CacheTags`]: how handlers mark responses, to remove them by
//! [`invalidate_tag`](redkit_cache::Cache::invalidate_tag).

use http::{HeaderName, response};

use crate::storable::Reason;

/// A response's tags, in its extensions:
///
/// ```
/// use http::Response;
/// use redkit_http_cache::CacheTags;
///
/// let mut response = Response::new("a teapot");
/// response.extensions_mut().insert(CacheTags::new(["product:42", "teapots"]));
/// ```
///
/// In axum, a handler gives `(Extension(CacheTags::new(["product:42"])), body)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheTags(Vec<Box<str>>);

impl CacheTags {
    /// These.
    pub fn new<T: Into<Box<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }
}

/// A response with more is not kept: it could not be removed by all of them.
const MOST_TAGS: usize = 64;
const MOST_BYTES: usize = 256;

/// The tags of a response, from its extensions and from the header that the program named.
pub(crate) fn of(
    response: &response::Parts,
    header: Option<&HeaderName>,
) -> Result<Vec<Box<str>>, Reason> {
    let mut tags = match response.extensions.get::<CacheTags>() {
        Some(CacheTags(tags)) => tags.clone(),
        None => Vec::new(),
    };
    for line in header
        .iter()
        .flat_map(|name| response.headers.get_all(*name))
    {
        let text = std::str::from_utf8(line.as_bytes()).map_err(|_| Reason::Tags)?;
        let named = text.split([',', ' ', '\t']).filter(|tag| !tag.is_empty());
        tags.extend(named.map(Into::into));
    }
    checked(tags)
}

/// The tags of a page and those of a later answer that confirms it.
pub(crate) fn union(tags: &[Box<str>], mut more: Vec<Box<str>>) -> Result<Vec<Box<str>>, Reason> {
    more.extend(tags.iter().cloned());
    checked(more)
}

fn checked(mut tags: Vec<Box<str>>) -> Result<Vec<Box<str>>, Reason> {
    tags.sort_unstable();
    tags.dedup();
    let fits = tags.len() <= MOST_TAGS
        && tags
            .iter()
            .all(|tag| !tag.is_empty() && tag.len() <= MOST_BYTES);
    if fits { Ok(tags) } else { Err(Reason::Tags) }
}
