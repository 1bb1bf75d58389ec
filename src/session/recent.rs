//! Values of which many sessions have the same: those that are equal are kept once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are looked through.
const KEPT_MAX: usize = 32;

/// The values that were last asked for, the newest first. Where there are more different ones than that, some that are
/// equal are kept more than once.
pub(super) struct Recent<T: ?Sized>(Mutex<Vec<Arc<T>>>);

impl<T: ?Sized + Eq> Recent<T> {
    /// One that was here before and is equal to this; or this, which is here from now on.
    pub(super) fn share(&self, value: Arc<T>) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|known| *known == value) {
            kept[..=at].rotate_right(1);
        } else {
            kept.truncate(KEPT_MAX - 1);
            kept.insert(0, value);
        }
        Arc::clone(&kept[0])
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
        for number in 0..1_000 {
            assert_eq!(&*share(&number.to_string()), number.to_string());
            assert!(Arc::ptr_eq(&share("often"), &first));
        }
        assert!(Arc::ptr_eq(&share("999"), &share("999")));
        let seldom = share("seldom");
        for number in 0..KEPT_MAX {
            share(&number.to_string());
        }
        assert!(!Arc::ptr_eq(&share("seldom"), &seldom), "nothing is kept for good");
        assert_eq!(recent.0.lock().unwrap().len(), KEPT_MAX);
    }
}
