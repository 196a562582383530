//! The catalogue in its SQLite database: every statement that reads or changes products.

mod open;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, QueryBuilder, Row, Sqlite, Transaction};

use crate::model::{
    Category, CategoryName, Cents, Found, Front, Id, ListedProduct, Listing, OutOfRange,
    PageNumber, Product, Search,
};

pub(crate) use open::OpenError;

/// How many products one page of a category shows.
pub(crate) const PAGE_SIZE: u32 = 24;

/// How many products a search shows.
const SHOWN: u32 = 48;

/// How many products the front page features.
const FEATURED: u32 = 12;

/// A handle on the database; clones share its connections and its count of reads.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    pool: SqlitePool,
    identity: Arc<str>,
    reads: Arc<AtomicU64>,
}

impl Catalogue {
    /// A random name that the database was given when it was seeded. Caches of two databases must
    /// not share entries, even on one server: what is true of one need not be true of the other.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The connections, for the other tables of the same database.
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// How many reads have reached the database: what a cache is there to avoid.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The shop's front.
    ///
    /// # Errors
    /// [`CatalogueError::Database`] or [`CatalogueError::Stored`].
    pub(crate) async fn front(&self) -> Result<Front, CatalogueError> {
        self.count_read();
        let categories: Vec<(Category, Option<i64>)> = sqlx::query(
            "SELECT category.id, category.name, count(product.id) AS products,
                    min(product.id) AS featured
             FROM category LEFT JOIN product ON product.category_id = category.id
             GROUP BY category.id ORDER BY category.name",
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(|row| Ok((Category::from_row(&row)?, row.try_get("featured")?)))
        .collect::<Result<_, sqlx::Error>>()?;
        let featured = categories.iter().filter_map(|(_, id)| *id);
        Ok(Front {
            featured: featured
                .take(FEATURED as usize)
                .map(Id::try_from)
                .collect::<Result<_, _>>()?,
            categories: categories
                .into_iter()
                .map(|(category, _)| category)
                .collect(),
        })
    }

    /// One product.
    ///
    /// # Errors
    /// [`CatalogueError::NoSuchProduct`] when there is none with this id; a database's failure.
    pub(crate) async fn product(&self, id: Id) -> Result<Product, CatalogueError> {
        self.count_read();
        sqlx::query_as(
            "SELECT product.id, product.name, description, price_cents, stock,
                    category.id AS category_id, category.name AS category_name
             FROM product JOIN category ON category.id = product.category_id
             WHERE product.id = ?",
        )
        .bind(id.as_i64())
        .fetch_optional(&self.pool)
        .await?
        .ok_or(CatalogueError::NoSuchProduct(id))
    }

    /// The products with these ids, in no order; those that do not exist are left out.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn products(&self, ids: &[Id]) -> Result<Vec<Product>, CatalogueError> {
        self.count_read();
        let mut query = QueryBuilder::new(
            "SELECT product.id, product.name, description, price_cents, stock,
                    category.id AS category_id, category.name AS category_name
             FROM product JOIN category ON category.id = product.category_id
             WHERE product.id IN (",
        );
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.as_i64());
        }
        query.push(")");
        Ok(query.build_query_as().fetch_all(&self.pool).await?)
    }

    /// One page of a category, in the order of the products' names.
    ///
    /// # Errors
    /// [`CatalogueError::NoSuchCategory`], [`CatalogueError::NoSuchPage`] when the page lies
    /// beyond the last one; a database's failure.
    pub(crate) async fn listing(
        &self,
        category: Id,
        page: PageNumber,
    ) -> Result<Listing, CatalogueError> {
        self.count_read();
        // One transaction, so that the count and the page are of the same moment.
        let mut snapshot = self.pool.begin().await?;
        let category: Category = sqlx::query_as(
            "SELECT id, name,
                    (SELECT count(*) FROM product WHERE category_id = category.id) AS products
             FROM category WHERE id = ?",
        )
        .bind(category.as_i64())
        .fetch_optional(&mut *snapshot)
        .await?
        .ok_or(CatalogueError::NoSuchCategory(category))?;
        let pages = pages_for(category.products);
        if page.get() > pages {
            return Err(CatalogueError::NoSuchPage { page, pages });
        }
        let products: Vec<ListedProduct> = sqlx::query_as(
            "SELECT id, name, price_cents, stock FROM product
             WHERE category_id = ? ORDER BY name, id LIMIT ? OFFSET ?",
        )
        .bind(category.id.as_i64())
        .bind(PAGE_SIZE)
        .bind(i64::from(PAGE_SIZE) * (i64::from(page.get()) - 1))
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.commit().await?;
        Ok(Listing {
            category,
            page,
            pages,
            products,
        })
    }

    /// The products whose names hold all words of a search.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn search(&self, search: &Search) -> Result<Found, CatalogueError> {
        self.count_read();
        let mut query = QueryBuilder::new(
            "SELECT id, name, price_cents, stock, count(*) OVER () AS total FROM product WHERE TRUE",
        );
        for word in search.words() {
            // `instr` has no wildcards, and knows capitals of ASCII only as `lower` does.
            query
                .push(" AND instr(lower(name), ")
                .push_bind(word.clone())
                .push(") > 0");
        }
        query.push(" ORDER BY name, id LIMIT ").push_bind(SHOWN);
        let rows: Vec<SqliteRow> = query.build().fetch_all(&self.pool).await?;
        let total = rows.first().map(|row| row.try_get("total")).transpose()?;
        let products = rows.iter().map(ListedProduct::from_row);
        Ok(Found {
            products: products.collect::<Result<_, _>>()?,
            total: total.unwrap_or_default(),
        })
    }

    /// Changes the price of a product, and gives its category, whose lists showed the old one.
    ///
    /// # Errors
    /// [`CatalogueError::NoSuchProduct`] when there is none with this id; a database's failure.
    pub(crate) async fn set_price(&self, id: Id, price: Cents) -> Result<Id, CatalogueError> {
        let row =
            sqlx::query("UPDATE product SET price_cents = ? WHERE id = ? RETURNING category_id")
                .bind(price.get())
                .bind(id.as_i64())
                .fetch_optional(&self.pool)
                .await?
                .ok_or(CatalogueError::NoSuchProduct(id))?;
        Ok(Id::try_from(row.try_get::<i64, _>("category_id")?)?)
    }

    /// Keeps everybody else waiting for the database until the hold is released. So one can see
    /// what visitors do while a read takes its time.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn hold(&self) -> Result<Hold, CatalogueError> {
        Ok(Hold(self.pool.begin_with("BEGIN EXCLUSIVE").await?))
    }

    /// Waits until the connections are closed.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// The database, held; see [`Catalogue::hold`].
#[derive(Debug)]
pub(crate) struct Hold(Transaction<'static, Sqlite>);

impl Hold {
    /// Lets the others go on.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn release(self) -> Result<(), CatalogueError> {
        Ok(self.0.rollback().await?)
    }
}

/// Why the catalogue gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogueError {
    /// The id is well formed, but no product has it.
    #[error("there is no product {0}")]
    NoSuchProduct(Id),
    /// The id is well formed, but no category has it.
    #[error("there is no category {0}")]
    NoSuchCategory(Id),
    /// The page lies beyond the last one.
    #[error("there is no page {page}: the last one is {pages}")]
    NoSuchPage {
        /// The page that was asked for.
        page: PageNumber,
        /// How many pages there are.
        pages: u32,
    },
    /// A key of the cache names nothing of the catalogue.
    #[error("nothing in the catalogue has the key {0}")]
    Key(String),
    /// The database holds something that this program never writes.
    #[error("the database holds a value that the shop does not deal in")]
    Stored(#[from] OutOfRange),
    /// The database could not be read or written.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// An empty list still has one page, which says that it is empty.
fn pages_for(products: u32) -> u32 {
    products.div_ceil(PAGE_SIZE).max(1)
}

/// Reads a column and checks its range; what is wrong is told with the column's name.
fn checked<T: TryFrom<i64, Error = OutOfRange>>(
    row: &SqliteRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    T::try_from(row.try_get(column)?).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

impl FromRow<'_, SqliteRow> for Product {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: checked(row, "id")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            price_cents: checked(row, "price_cents")?,
            stock: row.try_get("stock")?,
            category: CategoryName {
                id: checked(row, "category_id")?,
                name: row.try_get("category_name")?,
            },
        })
    }
}

impl FromRow<'_, SqliteRow> for ListedProduct {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: checked(row, "id")?,
            name: row.try_get("name")?,
            price_cents: checked(row, "price_cents")?,
            stock: row.try_get("stock")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for Category {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: checked(row, "id")?,
            name: row.try_get("name")?,
            products: row.try_get("products")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seeded() -> (tempfile::TempDir, Catalogue) {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&folder.path().join("shop.db"))
            .await
            .unwrap();
        (folder, catalogue)
    }

    fn id(number: i64) -> Id {
        Id::try_from(number).unwrap()
    }

    #[tokio::test]
    async fn a_category_is_paged_without_gap_or_overlap() {
        let (_folder, catalogue) = seeded().await;
        let first = catalogue.listing(id(1), PageNumber::FIRST).await.unwrap();
        assert_eq!((first.category.products, first.pages), (50, 3));
        let mut seen = Vec::new();
        for page in PageNumber::up_to(first.pages) {
            seen.push(catalogue.listing(id(1), page).await.unwrap().products);
        }
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [24, 24, 2]);
        let names: Vec<&str> = seen.iter().flatten().map(|p| p.name.as_str()).collect();
        assert!(names.is_sorted());
        let mut ids: Vec<Id> = seen.iter().flatten().map(|p| p.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    }

    #[tokio::test]
    async fn a_missing_page_or_category_is_named() {
        let (_folder, catalogue) = seeded().await;
        let page = "4".parse().unwrap();
        let error = catalogue.listing(id(1), page).await.unwrap_err();
        assert!(
            matches!(error, CatalogueError::NoSuchPage { pages: 3, .. }),
            "{error:?}"
        );
        let error = catalogue
            .listing(id(21), PageNumber::FIRST)
            .await
            .unwrap_err();
        assert!(
            matches!(error, CatalogueError::NoSuchCategory(_)),
            "{error:?}"
        );
        let error = catalogue.product(id(1001)).await.unwrap_err();
        assert!(
            matches!(error, CatalogueError::NoSuchProduct(_)),
            "{error:?}"
        );
        let price = "1".parse().unwrap();
        let error = catalogue.set_price(id(1001), price).await.unwrap_err();
        assert!(
            matches!(error, CatalogueError::NoSuchProduct(_)),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_price_change_is_kept_and_names_the_category() {
        let (_folder, catalogue) = seeded().await;
        let before = catalogue.product(id(77)).await.unwrap();
        let price = Cents::try_from(i64::from(before.price_cents.get()) + 1).unwrap();
        let category = catalogue.set_price(id(77), price).await.unwrap();
        assert_eq!(category, before.category.id);
        let after = catalogue.product(id(77)).await.unwrap();
        assert_eq!(
            after,
            Product {
                price_cents: price,
                ..before
            }
        );
    }

    #[tokio::test]
    async fn several_products_are_read_at_once_without_those_that_do_not_exist() {
        let (_folder, catalogue) = seeded().await;
        let mut found = catalogue
            .products(&[id(12), id(1001), id(3)])
            .await
            .unwrap();
        found.sort_by_key(|product| product.id);
        let one = catalogue.product(id(3)).await.unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0], found[1].id), (&one, id(12)));
        assert!(catalogue.products(&[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_search_finds_names_with_all_words() {
        let (_folder, catalogue) = seeded().await;
        let found = catalogue.search(&Search::of("KNIFE chef's")).await.unwrap();
        assert!(!found.products.is_empty());
        assert_eq!(found.products.len(), found.total as usize);
        for product in &found.products {
            assert!(product.name.contains("Chef's Knife"), "{product:?}");
        }
        // What would be wildcards are letters like all others.
        for none in ["%", "_", "knife spoon"] {
            let found = catalogue.search(&Search::of(none)).await.unwrap();
            assert_eq!((found.products.len(), found.total), (0, 0), "{none}");
        }
        let all = catalogue.search(&Search::of("e")).await.unwrap();
        assert_eq!(all.products.len(), SHOWN as usize);
        assert!(all.total > SHOWN);
    }

    #[tokio::test]
    async fn reads_are_counted() {
        let (_folder, catalogue) = seeded().await;
        let before = catalogue.reads();
        catalogue.front().await.unwrap();
        catalogue.product(id(1)).await.unwrap();
        catalogue.listing(id(1), PageNumber::FIRST).await.unwrap();
        assert_eq!(catalogue.reads() - before, 3);
    }

    #[tokio::test]
    async fn the_front_lists_every_category_and_features_existing_products() {
        let (_folder, catalogue) = seeded().await;
        let front = catalogue.front().await.unwrap();
        assert_eq!(front.categories.len(), 20);
        assert_eq!(
            front.categories.iter().map(|c| c.products).sum::<u32>(),
            1000
        );
        assert_eq!(front.featured.len(), FEATURED as usize);
        for featured in front.featured {
            catalogue.product(featured).await.unwrap();
        }
    }

    #[test]
    fn an_empty_list_has_one_page() {
        assert_eq!([0, 1, 24, 25, 48].map(pages_for), [1, 1, 1, 2, 2]);
    }
}
