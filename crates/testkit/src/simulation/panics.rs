//! Panics in a world: none is swallowed, in whatever task it happens.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CAUGHT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs `world` and gives what it gives, and the panics of its tasks. A panic of its own is the last of
/// them, and there is no result then. They are not printed.
pub(super) fn watched<R>(world: impl FnOnce() -> R) -> (Option<R>, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !caught(panic) {
                usual(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(Some(Vec::new()));
    let result = catch_unwind(AssertUnwindSafe(world)).ok();
    let panics = CAUGHT.replace(outer).unwrap_or_default();
    (result, panics)
}

/// Gives whether this thread is in a world.
fn caught(panic: &PanicHookInfo<'_>) -> bool {
    CAUGHT.with_borrow_mut(|panics| {
        let Some(panics) = panics else { return false };
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("a panic without a text");
        panics.push(format!("{} at {}", text, place.unwrap_or_default()));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_kept_and_do_not_end_the_thread() {
        let (result, panics) = watched(|| -> u32 { panic!("no value for {}", "k1") });
        assert_eq!(result, None);
        assert!(panics[0].starts_with("no value for k1 at "), "{panics:?}");
        let (result, panics) = watched(|| 7);
        assert_eq!((result, panics.len()), (Some(7), 0));
    }
}
