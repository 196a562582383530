//! The catalogue behind the cache: what is kept under which key, for how long, and what a change
//! of a price invalidates.

use std::time::Duration;

use redkit::Client;
use redkit::cache::{Cache, Fetched, Loaded, Source};

use crate::catalogue::{Catalogue, CatalogueError};
use crate::model::{Category, Cents, Front, Id, ListedProduct, Listing, PageNumber, Product};

/// How long an entry lives when nothing invalidates it. It bounds how long a page can be wrong
/// after something changed the database past this program.
const TTL: Duration = Duration::from_secs(3600);

/// The one key of the cache of fronts.
const FRONT: &str = "front";

/// Reads of the catalogue, through the cache.
pub(crate) struct CachedCatalogue {
    catalogue: Catalogue,
    products: Cache<Product>,
    listings: Cache<Listing>,
    fronts: Cache<Front>,
}

impl CachedCatalogue {
    /// Puts the caches in front of a catalogue, in the client's namespace.
    ///
    /// # Errors
    /// When a cache cannot be made.
    pub(crate) fn new(client: &Client, catalogue: Catalogue) -> Result<Self, redkit::cache::Error> {
        Ok(Self {
            products: Cache::builder(client, "products").ttl(TTL).build()?,
            listings: Cache::builder(client, "listings").ttl(TTL).build()?,
            fronts: Cache::builder(client, "fronts").ttl(TTL).build()?,
            catalogue,
        })
    }

    /// One product.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such product or the database failed.
    pub(crate) async fn product(&self, id: Id) -> Result<Read<Fetched<Product>>, ReadError> {
        let catalogue = self.catalogue.clone();
        let load = move || async move { catalogue.product(id).await };
        let product = self.products.get_or_load(&id.to_string(), load).await?;
        Ok(Read::from(product))
    }

    /// One page of a category.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such category or page, or the database failed.
    pub(crate) async fn listing(
        &self,
        category: Id,
        page: PageNumber,
    ) -> Result<Read<Fetched<Listing>>, ReadError> {
        let catalogue = self.catalogue.clone();
        let load = move || async move {
            let listing = catalogue.listing(category, page).await?;
            Ok::<_, CatalogueError>(Loaded::new(listing).tags([category_tag(category)]))
        };
        let listing = self
            .listings
            .get_or_load(&listing_key(category, page), load)
            .await?;
        Ok(Read::from(listing))
    }

    /// The shop's front, with its featured products read at once.
    ///
    /// # Errors
    /// [`ReadError`] when the database failed.
    pub(crate) async fn front(&self) -> Result<Read<FrontPage>, ReadError> {
        let catalogue = self.catalogue.clone();
        let load = move || async move { catalogue.front().await };
        let front = Read::from(self.fronts.get_or_load(FRONT, load).await?);
        let featured = self.products(&front.value.featured).await?;
        Ok(Read {
            // The page is no better than the worst of its parts.
            cache: front.cache.max(featured.cache),
            value: FrontPage {
                categories: front.value.categories.clone(),
                featured: featured.value,
            },
        })
    }

    /// Several products, in the order of their ids: one look at the cache, and one read of the
    /// database for all that is not there. What is not in the shop any more is left out.
    ///
    /// # Errors
    /// [`ReadError`] when the database failed.
    pub(crate) async fn products(&self, ids: &[Id]) -> Result<Read<Vec<ListedProduct>>, ReadError> {
        let catalogue = self.catalogue.clone();
        let load = move |keys: Vec<String>| {
            let catalogue = catalogue.clone();
            async move {
                let ids: Vec<Id> = keys.iter().filter_map(|key| key.parse().ok()).collect();
                let found = catalogue.products(&ids).await?;
                Ok::<_, CatalogueError>(
                    found
                        .into_iter()
                        .map(|product| (product.id.to_string(), product))
                        .collect(),
                )
            }
        };
        let keys = ids.iter().map(Id::to_string);
        let mut cache = CacheStatus::Hit;
        let mut products = Vec::with_capacity(ids.len());
        for read in self.products.get_many_or_load(keys, load).await {
            if let Some(product) = read? {
                cache = cache.max(CacheStatus::of(product.source()));
                products.push(ListedProduct::from(&*product));
            }
        }
        Ok(Read {
            value: products,
            cache,
        })
    }

    /// Changes a price: the database first, and then every entry that shows the old one goes. The
    /// other way round, a reader in between would put the old price back for an hour.
    ///
    /// # Errors
    /// [`ChangeError::Catalogue`] when nothing was changed, [`ChangeError::Invalidate`] when the
    /// price is changed and entries with the old one may remain.
    pub(crate) async fn set_price(&self, id: Id, price: Cents) -> Result<(), ChangeError> {
        let category = self.catalogue.set_price(id, price).await?;
        self.products.invalidate(&id.to_string()).await?;
        // Every page of the category at once, however many there are.
        self.listings
            .invalidate_tag(&category_tag(category))
            .await?;
        Ok(())
    }
}

/// What was read, and what the cache had to do with it.
#[derive(Debug)]
pub(crate) struct Read<V> {
    pub(crate) value: V,
    pub(crate) cache: CacheStatus,
}

impl<V> From<Fetched<V>> for Read<Fetched<V>> {
    fn from(value: Fetched<V>) -> Self {
        Self {
            cache: CacheStatus::of(value.source()),
            value,
        }
    }
}

/// What the front page shows.
#[derive(Debug)]
pub(crate) struct FrontPage {
    pub(crate) categories: Vec<Category>,
    pub(crate) featured: Vec<ListedProduct>,
}

/// How the cache dealt with a read, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CacheStatus {
    /// It had the answer.
    Hit,
    /// Another reader's load gave the answer.
    Collapsed,
    /// The database was read.
    Miss,
    /// The database was read, because the cache could not be asked.
    Bypass,
}

impl CacheStatus {
    fn of(source: Source) -> Self {
        match source {
            Source::Local | Source::Redis => Self::Hit,
            Source::Shared => Self::Collapsed,
            Source::Bypassed => Self::Bypass,
            // Loaded, and whatever else is not a hit.
            _ => Self::Miss,
        }
    }

    /// As the `Cache-Status` header says it (RFC 9211).
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Hit => "redkit; hit",
            Self::Collapsed => "redkit; fwd=miss; collapsed",
            Self::Miss => "redkit; fwd=miss",
            Self::Bypass => "redkit; fwd=bypass",
        }
    }

    /// As a page says it.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Hit => "from the cache",
            Self::Collapsed => "from the database, read once for several visitors",
            Self::Miss => "from the database",
            Self::Bypass => "from the database, because the cache cannot be reached",
        }
    }
}

/// A read failed.
#[derive(Debug, thiserror::Error)]
#[error("the catalogue could not be read")]
pub(crate) struct ReadError(#[from] redkit::cache::Error);

impl ReadError {
    /// The catalogue's own error, when that is what it was.
    pub(crate) fn catalogue(&self) -> Option<&CatalogueError> {
        self.0.load_error()
    }
}

/// A change failed, or its effect on the cache did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Nothing was changed.
    #[error("the catalogue could not be changed")]
    Catalogue(#[from] CatalogueError),
    /// The catalogue is changed; the cache may show what was before until its entries end.
    #[error("the change is made, but cached copies could not be invalidated")]
    Invalidate(#[from] redkit::cache::Error),
}

/// What every page of a category is tagged with.
fn category_tag(category: Id) -> String {
    format!("category:{category}")
}

fn listing_key(category: Id, page: PageNumber) -> String {
    format!("{category}:{page}")
}
