//! The two clocks of an edge: what is too old goes, and connections beat.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::engine::MemoryEngine;
use crate::transport::Transports;

/// How often the memory engine lets go of what is too old.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

pub(super) async fn sweep(engine: Weak<MemoryEngine>) {
    loop {
        tokio::time::sleep(SWEEP_PERIOD).await;
        let Some(engine) = engine.upgrade() else { return };
        engine.sweep();
    }
}

pub(super) async fn beat(transports: Weak<Transports>) {
    let Some(period) = transports.upgrade().map(|transports| transports.pulse().period()) else {
        return;
    };
    let mut interval = tokio::time::interval(period);
    // After a pause of the whole process nobody is late: time goes on from where it stood.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let Some(transports) = transports.upgrade() else { return };
        transports.pulse().beat();
    }
}
