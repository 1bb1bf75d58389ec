//! Values of which many sessions have the same: those that are equal are kept once, and no longer than somebody has them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How many are looked through.
const KEPT_MAX: usize = 32;

/// The values that were last asked for, the newest first. Where there are more different ones than that, some that are
/// equal are kept more than once.
pub(super) struct Recent<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized + Eq> Recent<T> {
    /// One that was here before and is equal to this; or this, which is here from now on.
    pub(super) fn share(&self, value: Arc<T>) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let equal = |known: &Weak<T>| known.upgrade().filter(|known| *known == value);
        let found = kept
            .iter()
            .enumerate()
            .find_map(|(at, known)| Some((at, equal(known)?)));
        if let Some((at, known)) = found {
            kept[..=at].rotate_right(1);
            return known;
        }
        kept.retain(|known| known.strong_count() > 0);
        kept.truncate(KEPT_MAX - 1);
        kept.insert(0, Arc::downgrade(&value));
        value
    }
}

impl<T: ?Sized> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Not what they are: some say who somebody is.
impl<T: ?Sized> fmt::Debug for Recent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_kept_once_for_as_long_as_it_is_asked_for() {
        let recent = Recent::default();
        let share = |text: &str| recent.share(Arc::<str>::from(text));
        let first = share("often");
        let mut others = Vec::new();
        for number in 0..1_000 {
            others.push(share(&number.to_string()));
            assert_eq!(*others[number], *number.to_string());
            assert!(Arc::ptr_eq(&share("often"), &first));
        }
        assert!(Arc::ptr_eq(&share("999"), &others[999]));
        assert!(!Arc::ptr_eq(&share("0"), &others[0]), "so many are not looked through");
        assert_eq!(recent.0.lock().unwrap().len(), KEPT_MAX);
        drop((first, others));
        share("another");
        assert_eq!(recent.0.lock().unwrap().len(), 1, "nobody has the others any more");
    }
}
