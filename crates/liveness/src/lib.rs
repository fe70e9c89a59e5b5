//! Whether a child is alive, decided from its beats. Pure: every moment is an argument.
//!
//! ```text
//!   beats (numbered) ──► Window ──► measured loss ─┐
//!   gaps between them ─────────────► lateness ─────┴─► Detector ──► verdict, threshold, interval, asks
//! ```
//!
//! A child sends numbered beats, so what got lost is *measured*: on a clean link silence is noticed after two and a
//! half seconds, on a lossy one it takes longer, and never more than nine and a half. How beats travel is in
//! `crates/link`.

mod detector;
mod settings;
mod window;

pub use detector::{Detector, Verdict};
pub use settings::{INTERVAL_MILLIS, Settings, USUAL_INTERVAL_MILLIS};
pub use window::{Arrival, Window};
