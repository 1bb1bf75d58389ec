//! One coarse clock for all connections: a wheel of parked wakers instead of a timer each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Timings;
use crate::delivery::{Parked, Parking};

/// Ticks in one heartbeat: a heartbeat comes at most this fraction of it early.
const TICKS_PER_HEARTBEAT: u32 = 32;

/// The shortest tick: 32 bits then count for more than a year, and for a century with the usual heartbeat.
const TICK_MS_MIN: u64 = 10;

/// Ticks that one turn of the wheel takes. What is due later is parked once more on its way.
const SLOTS: u32 = 64;

/// The clock. Its ticks are counted from its start.
#[derive(Debug)]
pub struct Pulse {
    tick: Duration,
    /// Here once, and not in every connection.
    timings: Timings,
    now: AtomicU32,
    slots: Box<[Parking]>,
}

impl Pulse {
    /// A clock that is fine enough for the heartbeat.
    pub(super) fn new(timings: Timings) -> Self {
        let tick_ms = (timings.heartbeat_ms / u64::from(TICKS_PER_HEARTBEAT)).max(TICK_MS_MIN);
        Self {
            tick: Duration::from_millis(tick_ms),
            timings,
            now: AtomicU32::new(0),
            slots: (0..SLOTS).map(|_| Parking::new()).collect(),
        }
    }

    /// How long a tick is.
    pub fn period(&self) -> Duration {
        self.tick
    }

    /// Goes on by one, and wakes those whose time has come. To be called once in a [period](Pulse::period).
    pub fn beat(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        drop(self.slots[(now % SLOTS) as usize].wake());
    }

    pub(super) fn now(&self) -> u32 {
        self.now.load(Ordering::SeqCst)
    }

    /// How many ticks a heartbeat takes.
    pub(super) fn heartbeat(&self) -> u32 {
        self.ticks(self.timings.heartbeat_ms)
    }

    /// How many ticks a reader may take nothing.
    pub(super) fn write_timeout(&self) -> u32 {
        self.ticks(self.timings.write_timeout_ms)
    }

    /// How many ticks pass within so many milliseconds; at least one.
    pub(super) fn ticks(&self, ms: u64) -> u32 {
        let tick_ms = u64::try_from(self.tick.as_millis()).unwrap_or(u64::MAX).max(1);
        u32::try_from(ms / tick_ms).unwrap_or(u32::MAX / 4).max(1)
    }
}

/// One connection's place on the wheel. It must be polled by one task only.
#[derive(Debug)]
pub(super) struct Alarm {
    pulse: Arc<Pulse>,
    parked: Parked,
    /// The tick whose slot it is parked in.
    at: Option<u32>,
}

impl Alarm {
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub(super) fn new(pulse: Arc<Pulse>, spread: usize) -> Self {
        Self {
            pulse,
            parked: Parked::new(spread),
            at: None,
        }
    }

    /// Ready when the clock has come to `due`; a later call may name another tick.
    pub(super) fn poll(&mut self, due: u32, cx: &Context<'_>) -> Poll<()> {
        loop {
            let now = self.pulse.now();
            if now >= due {
                self.leave();
                return Poll::Ready(());
            }
            let at = due.min(now + SLOTS - 1);
            if self.at.is_some_and(|parked| now < parked && parked <= due) {
                return Poll::Pending;
            }
            self.leave();
            let pulse = &self.pulse;
            let slot = &pulse.slots[(at % SLOTS) as usize];
            if slot.park(&mut self.parked, cx.waker(), || pulse.now() < at) {
                self.at = Some(at);
                return Poll::Pending;
            }
        }
    }

    fn leave(&mut self) {
        if let Some(at) = self.at.take() {
            self.pulse.slots[(at % SLOTS) as usize].leave(&mut self.parked);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_when_due_and_not_before() {
        let pulse = Arc::new(Pulse::new(Timings {
            heartbeat_ms: 3200,
            ..Timings::default()
        }));
        let clock = Arc::clone(&pulse);
        let running = tokio::spawn(async move {
            loop {
                tokio::time::sleep(clock.period()).await;
                clock.beat();
            }
        });
        let mut alarm = Alarm::new(Arc::clone(&pulse), 0);
        for ticks in [1, 5, 63, 64, 200] {
            let due = pulse.now() + ticks;
            let began = tokio::time::Instant::now();
            std::future::poll_fn(|cx| alarm.poll(due, cx)).await;
            let passed_ms = u32::try_from(began.elapsed().as_millis()).unwrap();
            assert!(
                (ticks * 100 - 100..=ticks * 100).contains(&passed_ms),
                "{ticks} ticks took {passed_ms} ms"
            );
        }
        running.abort();
    }
}
