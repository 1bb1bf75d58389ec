//! How long something waits, whatever else the machine does meanwhile.

use std::pin::pin;
use std::thread;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{self, Instant};

/// How far the clock goes on at a time, and what everybody gets for it: so long of real time, and so many turns.
const STEP: Duration = Duration::from_millis(10);
const REAL: Duration = Duration::from_millis(2);
const TURNS: usize = 20;

/// What comes, and for how long it was waited for by tokio's clock, which goes on only while all that there is to do is
/// done: a slow machine waits no longer. Needs a runtime of one thread.
pub(crate) async fn waits<T>(coming: impl Future<Output = T>) -> (T, Duration) {
    time::pause();
    let began = Instant::now();
    let mut coming = pin!(coming);
    let come = loop {
        let step = async {
            // The clock does not go on by itself before this is done. What is on its way to a socket comes meanwhile.
            spawn_blocking(|| thread::sleep(REAL)).await.expect("it only sleeps");
            for _ in 0..TURNS {
                yield_now().await;
            }
            time::advance(STEP).await;
        };
        tokio::select! {
            biased;
            come = &mut coming => break come,
            () = step => {}
        }
    };
    let waited = began.elapsed();
    time::resume();
    (come, waited)
}
