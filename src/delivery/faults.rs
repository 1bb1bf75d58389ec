//! Faults that a test plants in the core, one at a time, to prove that the promise's test would see them.
//!
//! Compiled only with the feature `seeded-faults`, which nothing but that test switches on.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Poll;

use super::{Delivery, Gap, Since};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Nothing.
    None,
    /// A publication is left out.
    Skip,
    /// A publication comes twice.
    Repeat,
    /// Two neighbours change places.
    Swap,
    /// A gap is not said.
    HideGap,
    /// A publication is left out and called a gap, although the window holds it.
    FalseGap,
    /// A resume begins one publication too late.
    ResumeOffByOne,
}

/// Every fault there is.
pub const FAULTS: [Fault; 6] = [
    Fault::Skip,
    Fault::Repeat,
    Fault::Swap,
    Fault::HideGap,
    Fault::FalseGap,
    Fault::ResumeOffByOne,
];

/// One in so many deliveries is altered.
const ONE_IN: u64 = 50;

static PLANTED: AtomicU8 = AtomicU8::new(Fault::None as u8);
static CHANCES: AtomicU64 = AtomicU64::new(0);
static STRUCK: AtomicU64 = AtomicU64::new(0);

/// Plants a fault in the whole process, and forgets how often the one before struck.
pub fn plant(fault: Fault) {
    STRUCK.store(0, Ordering::SeqCst);
    PLANTED.store(fault as u8, Ordering::SeqCst);
}

/// How often the planted fault has struck.
pub fn struck() -> u64 {
    STRUCK.load(Ordering::SeqCst)
}

fn is_planted(fault: Fault) -> bool {
    PLANTED.load(Ordering::Relaxed) == fault as u8
}

fn strikes() -> bool {
    let strikes = CHANCES.fetch_add(1, Ordering::Relaxed).is_multiple_of(ONE_IN);
    if strikes {
        STRUCK.fetch_add(1, Ordering::SeqCst);
    }
    strikes
}

pub(super) fn alter_since(since: Since) -> Since {
    if let Since::After(mut position) = since
        && is_planted(Fault::ResumeOffByOne)
        && strikes()
    {
        position.offset += 1;
        return Since::After(position);
    }
    since
}

/// Passes on what `next` yields, except where the planted fault strikes. `held` comes before anything else.
pub(super) fn alter(
    held: &mut Option<Delivery>,
    mut next: impl FnMut() -> Poll<Option<Delivery>>,
) -> Poll<Option<Delivery>> {
    if let Some(held) = held.take() {
        return Poll::Ready(Some(held));
    }
    let delivery = next();
    let Poll::Ready(Some(found)) = &delivery else {
        return delivery;
    };
    match found {
        Delivery::Gap(_) if is_planted(Fault::HideGap) => {
            STRUCK.fetch_add(1, Ordering::SeqCst);
            next()
        }
        Delivery::Publication(_) if is_planted(Fault::Skip) && strikes() => next(),
        Delivery::Publication(_) if is_planted(Fault::Repeat) && strikes() => {
            *held = Some(found.clone());
            delivery
        }
        Delivery::Publication(publication) if is_planted(Fault::FalseGap) && strikes() => {
            let to = publication.position;
            let from = super::Position {
                offset: to.offset - 1,
                ..to
            };
            Poll::Ready(Some(Delivery::Gap(Gap { from, to })))
        }
        Delivery::Publication(_) if is_planted(Fault::Swap) => match next() {
            Poll::Ready(Some(second)) => {
                STRUCK.fetch_add(1, Ordering::SeqCst);
                *held = Some(found.clone());
                Poll::Ready(Some(second))
            }
            Poll::Ready(None) | Poll::Pending => delivery,
        },
        Delivery::Publication(_) | Delivery::Gap(_) | Delivery::Ended(_) => delivery,
    }
}
