//! The locks that [`parking`](super::parking) is built from; its model test puts loom's in their place.

pub(super) use std::sync::{Mutex, MutexGuard};
