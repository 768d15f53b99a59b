//! What the daemon publishes: one snapshot, [`Status`], and every rendering of it. `status.json`, `certwarden status`
//! and systemd's `STATUS=` line say the same because they are made of the same value.

pub mod export;
pub mod fleet;
mod line;
mod metrics;
mod publish;
mod status;
mod text;

pub use line::{clock, line};
pub use metrics::{METRICS_FILE, WATCH_METRICS_FILE, publish_metrics};
pub use publish::{ObserveError, STATUS_FILE, publish, read};
pub use status::{Attention, CheckSeen, Doing, NextEnd, SCHEMA, Status, Verdict, Waits};
pub use text::render;
