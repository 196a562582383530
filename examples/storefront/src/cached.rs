//! The catalogue behind the cache: what is kept under which key, for how long, and what a change
//! of a price or of the stock invalidates.

use std::time::Duration;

use futures_util::stream;
use redkit::Client;
use redkit::cache::{Cache, Fetched, Loaded, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::context::{self, Pattern};
use crate::model::{
    Category, Cents, Found, Front, Id, ListedProduct, Listing, PageNumber, Product, Search,
};
use crate::orders::Sold;

/// How long an entry lives when nothing invalidates it. It bounds how long a page can be wrong
/// after something changed the database past this program.
const TTL: Duration = Duration::from_secs(3600);

/// What was searched for is shown for a shorter time, since a product that is new shows up only then.
const SEARCH_TTL: Duration = Duration::from_secs(15 * 60);

/// Once so much of an entry's time is over, the first visitor that reads it has it loaded anew, in the background.
const REFRESH_AHEAD: f64 = 0.8;

/// Entries live shorter by up to a tenth, so that what was warmed together does not end together.
const JITTER: f64 = 0.1;

/// So few units of a product are worth a word in lists.
pub(crate) const FEW: u32 = 4;

/// The one key of the cache of fronts.
const FRONT: &str = "front";

/// Reads of the catalogue, through the cache.
pub(crate) struct CachedCatalogue {
    catalogue: Catalogue,
    products: Cache<Product>,
    listings: Cache<Listing>,
    fronts: Cache<Front>,
    searches: Cache<Found>,
}

impl CachedCatalogue {
    /// Puts the caches in front of a catalogue, in the client's namespace.
    ///
    /// # Errors
    /// When a cache cannot be made.
    pub(crate) fn new(client: &Client, catalogue: Catalogue) -> Result<Self, redkit::cache::Error> {
        Ok(Self {
            products: cache(client, "products", TTL)?,
            listings: cache(client, "listings", TTL)?,
            fronts: cache(client, "fronts", TTL)?,
            searches: cache(client, "searches", SEARCH_TTL)?,
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
        Ok(Read::from(product).noted("product"))
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
        let load = move || async move { load_page(&catalogue, category, page).await };
        let listing = self
            .listings
            .get_or_load(&listing_key(category, page), load)
            .await?;
        Ok(Read::from(listing).noted("list"))
    }

    /// The shop's front, with its featured products read at once.
    ///
    /// # Errors
    /// [`ReadError`] when the database failed.
    pub(crate) async fn front(&self) -> Result<Read<FrontPage>, ReadError> {
        let catalogue = self.catalogue.clone();
        let load = move || async move { catalogue.front().await };
        let front = Read::from(self.fronts.get_or_load(FRONT, load).await?).noted("categories");
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
        let read = Read {
            value: products,
            cache,
        };
        Ok(read.noted("products, several at once,"))
    }

    /// What a search finds. It is tagged with the categories of what it shows, so that it goes with them.
    ///
    /// # Errors
    /// [`ReadError`] when the database failed.
    pub(crate) async fn search(&self, search: &Search) -> Result<Read<Fetched<Found>>, ReadError> {
        let (catalogue, wanted) = (self.catalogue.clone(), search.clone());
        let load = move || async move {
            let found = catalogue.search(&wanted).await?;
            let ids: Vec<Id> = found.products.iter().map(|product| product.id).collect();
            let mut tags: Vec<String> = Vec::new();
            for product in catalogue.products(&ids).await? {
                tags.push(category_tag(product.category.id));
            }
            tags.sort_unstable();
            tags.dedup();
            Ok::<_, CatalogueError>(Loaded::new(found).tags(tags))
        };
        let found = self.searches.get_or_load(search.key(), load).await?;
        Ok(Read::from(found).noted("search"))
    }

    /// Fills the cache ahead: the front, the first page of every category, and these products. What is there is left
    /// alone. `progress` is told how many of how many are done.
    ///
    /// # Errors
    /// [`ReadError`] when not even the front can be read. Whatever else fails is counted.
    pub(crate) async fn warm(
        &self,
        popular: &[Id],
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Warmed, ReadError> {
        let front = self.front().await?.value;
        let featured = front.featured.iter().map(|product| product.id);
        let mut products: Vec<Id> = popular.iter().copied().chain(featured).collect();
        products.sort_unstable();
        products.dedup();
        let categories: Vec<Id> = front.categories.iter().map(|one| one.id).collect();
        let total = (products.len() + categories.len()) as u64;

        let catalogue = self.catalogue.clone();
        let load_list = |key: String| {
            let catalogue = catalogue.clone();
            async move { load_listing(catalogue, &key).await }
        };
        let mut keys = Vec::with_capacity(categories.len());
        for category in categories {
            keys.push(listing_key(category, PageNumber::FIRST));
        }
        let lists = self
            .listings
            .warm(stream::iter(keys))
            .on_progress(|so_far| progress(so_far.done(), total))
            .run(load_list)
            .await;
        let load_product = |key: String| {
            let catalogue = catalogue.clone();
            async move {
                match key.parse() {
                    Ok(id) => catalogue.product(id).await,
                    Err(_) => Err(CatalogueError::Key(key)),
                }
            }
        };
        let mut keys = Vec::with_capacity(products.len());
        for product in products {
            keys.push(product.to_string());
        }
        let before = lists.done();
        let singles = self
            .products
            .warm(stream::iter(keys))
            .on_progress(|so_far| progress(before + so_far.done(), total))
            .run(load_product)
            .await;
        Ok(Warmed {
            loaded: lists.loaded + singles.loaded,
            present: lists.present + singles.present,
            failed: lists.failed + singles.failed,
            took: lists.took + singles.took,
        })
    }

    /// Removes what shows the stock as it was before an order was placed or cancelled. It is no matter of right and
    /// wrong: the database sells what is there. So where it fails pages are out of date for an hour at most.
    pub(crate) async fn sold(&self, sold: &[Sold]) {
        for one in sold {
            if let Err(error) = self.restock(one).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "pages show the stock as it was"
                );
            }
        }
        if !sold.is_empty() {
            context::note(
                Pattern::Cache,
                "pages that showed the old stock invalidated",
            );
        }
    }

    async fn restock(&self, sold: &Sold) -> Result<(), redkit::cache::Error> {
        self.products.invalidate(&sold.product.to_string()).await?;
        // Lists say how few there are only when there are few.
        let is_few = |stock| stock <= FEW;
        if is_few(sold.stock_before) || is_few(sold.stock_after) {
            self.invalidate_category(sold.category).await?;
        }
        Ok(())
    }

    /// Every page and every search that shows something of a category, in the same time for any number of them.
    async fn invalidate_category(&self, category: Id) -> Result<(), redkit::cache::Error> {
        let tag = category_tag(category);
        self.listings.invalidate_tag(&tag).await?;
        self.searches.invalidate_tag(&tag).await
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
        self.invalidate_category(category).await?;
        Ok(())
    }
}

/// What was read, and what the cache had to do with it.
#[derive(Debug)]
pub(crate) struct Read<V> {
    pub(crate) value: V,
    pub(crate) cache: CacheStatus,
}

/// What a warming came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warmed {
    pub(crate) loaded: u64,
    pub(crate) present: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
}

impl<V> Read<V> {
    /// Tells the page what the cache had to do with `what`.
    fn noted(self, what: &str) -> Self {
        context::note(Pattern::Cache, format!("{what} {}", self.cache.in_words()));
        self
    }
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

/// A cache of the catalogue's.
fn cache<V>(client: &Client, name: &str, ttl: Duration) -> Result<Cache<V>, redkit::cache::Error>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    Cache::builder(client, name)
        .ttl(ttl)
        .ttl_jitter(JITTER)
        .refresh_ahead(REFRESH_AHEAD)
        .build()
}

async fn load_page(
    catalogue: &Catalogue,
    category: Id,
    page: PageNumber,
) -> Result<Loaded<Listing>, CatalogueError> {
    let listing = catalogue.listing(category, page).await?;
    Ok(Loaded::new(listing).tags([category_tag(category)]))
}

/// Loads what a [key](listing_key) names.
async fn load_listing(catalogue: Catalogue, key: &str) -> Result<Loaded<Listing>, CatalogueError> {
    let named = key.split_once(':').and_then(|(category, page)| {
        Some((
            category.parse::<Id>().ok()?,
            page.parse::<PageNumber>().ok()?,
        ))
    });
    match named {
        Some((category, page)) => load_page(&catalogue, category, page).await,
        None => Err(CatalogueError::Key(key.to_owned())),
    }
}

/// What every page of a category is tagged with.
fn category_tag(category: Id) -> String {
    format!("category:{category}")
}

fn listing_key(category: Id, page: PageNumber) -> String {
    format!("{category}:{page}")
}
