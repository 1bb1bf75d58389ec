//! The parking place of waiting readers, one thread at a time; `parking_model.rs` has the interleavings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use throughline::delivery::{Parked, Parking};

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn new() -> (Arc<Self>, Waker) {
        let task = Arc::new(Self::default());
        (Arc::clone(&task), Waker::from(task))
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn ten_thousand_polls_leave_one_entry() {
    let (parking, mut parked, (task, waker)) = (Parking::new(), Parked::new(0), Task::new());
    for _ in 0..10_000 {
        assert!(parking.park(&mut parked, &waker, || true));
    }
    drop(parking.wake());
    assert_eq!(task.woken(), 1);
    drop(parking.wake());
    assert_eq!(task.woken(), 1, "who was woken has left");
}

#[test]
fn the_newest_waker_replaces_the_one_before() {
    let (parking, mut parked) = (Parking::new(), Parked::new(0));
    let ((old, old_waker), (new, new_waker)) = (Task::new(), Task::new());
    parking.park(&mut parked, &old_waker, || true);
    parking.park(&mut parked, &new_waker, || true);
    drop(parking.wake());
    assert_eq!((old.woken(), new.woken()), (0, 1));
}

#[test]
fn who_leaves_is_not_woken_and_who_comes_next_is() {
    let (parking, mut parked) = (Parking::new(), Parked::new(0));
    let ((gone, gone_waker), (here, here_waker)) = (Task::new(), Task::new());
    parking.park(&mut parked, &gone_waker, || true);
    parking.leave(&mut parked);
    parking.park(&mut Parked::new(0), &here_waker, || true);
    parking.leave(&mut parked);
    drop(parking.wake());
    assert_eq!((gone.woken(), here.woken()), (0, 1));
}

#[test]
fn a_claim_from_before_a_wake_takes_nothing_from_those_who_came_after() {
    let (parking, mut early, mut late) = (Parking::new(), Parked::new(0), Parked::new(0));
    let (task, waker) = Task::new();
    parking.park(&mut early, Waker::noop(), || true);
    drop(parking.wake());
    parking.park(&mut late, &waker, || true);
    parking.leave(&mut early);
    drop(parking.wake());
    assert_eq!(task.woken(), 1);
}

#[test]
fn who_has_something_to_do_does_not_park() {
    let (parking, (task, waker)) = (Parking::new(), Task::new());
    assert!(!parking.park(&mut Parked::new(0), &waker, || false));
    drop(parking.wake());
    assert_eq!(task.woken(), 0);
}

#[test]
fn some_are_woken_at_a_time_and_the_rest_when_dropped() {
    let (parking, (task, waker)) = (Parking::new(), Task::new());
    for spread in 0..10 {
        parking.park(&mut Parked::new(spread), &waker, || true);
    }
    let mut woken = parking.wake();
    assert!(woken.wake_some(4));
    assert_eq!(task.woken(), 4);
    drop(woken);
    assert_eq!(task.woken(), 10);
    assert!(!parking.wake().wake_some(1));
}
