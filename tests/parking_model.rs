//! A loom model of parking and waking: every interleaving of readers and a publisher, none of whom may be forgotten.
//!
//! The module under test is compiled here once more, with loom's locks in place of the standard library's.

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use parking::{Parked, Parking};

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the library's own module, of which a model uses a part"
)]
#[path = "../src/delivery/parking.rs"]
mod parking;

/// A task: it was woken so many times.
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn new() -> StdArc<Self> {
        StdArc::new(Self(AtomicUsize::new(0)))
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A tail reduced to its top, and its parking place.
struct Tail {
    top: AtomicUsize,
    parking: Parking,
}

impl Tail {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            top: AtomicUsize::new(0),
            parking: Parking::new(),
        })
    }

    fn publish(&self) {
        self.top.fetch_add(1, Ordering::SeqCst);
        drop(self.parking.wake());
    }

    /// Parks a reader that has seen `cursor` publications, unless there are more; says whether it sleeps.
    fn sleep(&self, parked: &mut Parked, task: &StdArc<Task>, cursor: usize) -> bool {
        let is_idle = || self.top.load(Ordering::SeqCst) == cursor;
        is_idle() && self.parking.park(parked, &Waker::from(StdArc::clone(task)), is_idle)
    }
}

/// Preemptions in one execution: what a model explores is exhaustive up to here. Bugs of this kind need two.
const PREEMPTIONS_MAX: usize = 3;

fn model(execution: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(execution);
}

#[test]
fn a_reader_that_sleeps_while_something_is_published_is_woken() {
    model(|| {
        let tail = Tail::new();
        let task = Task::new();
        let publisher = {
            let tail = Arc::clone(&tail);
            thread::spawn(move || tail.publish())
        };
        let sleeps = tail.sleep(&mut Parked::new(0), &task, 0);
        publisher.join().unwrap();
        assert_eq!(
            usize::from(sleeps),
            task.woken(),
            "asleep means woken once, awake means never"
        );
    });
}

#[test]
fn a_reader_that_polls_again_and_leaves_is_neither_lost_nor_woken_for_another() {
    model(|| {
        let tail = Tail::new();
        let (early, late) = (Task::new(), Task::new());
        let publisher = {
            let tail = Arc::clone(&tail);
            thread::spawn(move || tail.publish())
        };
        let mut leaving = Parked::new(0);
        tail.sleep(&mut leaving, &early, 0);
        tail.sleep(&mut leaving, &early, 0);
        tail.parking.leave(&mut leaving);
        let sleeps = tail.sleep(&mut Parked::new(0), &late, 0);
        publisher.join().unwrap();
        assert_eq!(usize::from(sleeps), late.woken());
        assert!(early.woken() <= 1, "one place, however often it was polled");
    });
}

#[test]
fn two_publishers_wake_a_reader_that_slept_once() {
    model(|| {
        let tail = Tail::new();
        let task = Task::new();
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let tail = Arc::clone(&tail);
                thread::spawn(move || tail.publish())
            })
            .collect();
        let mut parked = Parked::new(0);
        let sleeps = tail.sleep(&mut parked, &task, 0);
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert_eq!(usize::from(sleeps), task.woken());
        assert!(
            tail.sleep(&mut parked, &task, 2),
            "its old place is gone, and it gets a new one"
        );
        tail.publish();
        assert_eq!(usize::from(sleeps) + 1, task.woken());
    });
}
