//! A list of fields stays as long as the variants that are found by it.

use std::sync::Arc;

use crate::context::Context;
use crate::load::{KeyLevel, NotFilled};
use crate::stored::{CachedResponse, Kind};

/// Has the list by which a variant was loaded kept as long as the variant, in the background.
pub(crate) fn prolong_list(context: &Context, level: &KeyLevel, variant: &CachedResponse) {
    let (KeyLevel::Variant { list: found, .. }, Kind::Page(page)) = (level, &variant.0) else {
        return;
    };
    let Some(list) = found.list() else {
        return;
    };
    let (fresh, stale) = page.kept_for(context.rules.kept_for_validation());
    let variant = fresh.saturating_add(stale);
    if list.outlives(variant) {
        return;
    }
    let Some(prolonging) = context.rules.revalidations.begin(&found.key) else {
        return;
    };
    let (context, found, list) = (context.clone(), found.clone(), list.clone());
    let cache = context.rules.cache.clone();
    let tasks = cache.clone();
    tasks.spawn(async move {
        let (source, key) = (cache.clone(), Arc::clone(&found.key));
        let loader = || async move {
            // A change that has removed the list counts. One that comes later takes the lease of this load away.
            let is_ours = match source.peek_in_redis(&key[..]).await {
                Ok(Some(there)) => matches!(&there.0, Kind::Varies(its) if its.id == list.id),
                Ok(None) | Err(_) => false,
            };
            match is_ours {
                true => Ok(list.loaded(variant, &source)),
                false => Err(NotFilled),
            }
        };
        if let Err(error) = cache.reload(&found.key[..], &found.cached, loader).await
            && error.load_error::<NotFilled>().is_none()
        {
            context.count_failure("a list of fields cannot be prolonged", &error);
        }
        drop(prolonging);
    });
}
