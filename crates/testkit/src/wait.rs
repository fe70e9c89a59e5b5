//! Waiting for a state, never for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longer than anything here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is `Ok`.
///
/// # Panics
/// After twenty seconds, with what was waited for and the last answer.
pub async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) if started.elapsed() > DEADLINE => panic!("waited for {what}; last seen: {last}"),
            Err(_) => sleep(PAUSE).await,
        }
    }
}
