//! Waiting for things that tell nobody when they are ready.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::time::sleep;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Asks again until the answer is there.
pub(crate) async fn wait_until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => anyhow!("not yet"),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            let seconds = within.as_secs();
            return Err(last.context(format!("waited {seconds} s in vain until {what}")));
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_tells_the_last_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut asked = 0;
        let patient = Duration::from_secs(60);
        let answer = runtime.block_on(wait_until("it is the third time", patient, async || {
            asked += 1;
            if asked == 1 { Err(anyhow!("not heard")) } else { Ok((asked == 3).then_some(asked)) }
        }));
        assert_eq!(answer.expect("it comes"), 3);
        let refused = async || Err::<Option<()>, _>(anyhow!("refused"));
        let error = runtime.block_on(wait_until("it is let in", Duration::ZERO, refused));
        let error = error.expect_err("it is not");
        assert_eq!(format!("{error:#}"), "waited 0 s in vain until it is let in: refused");
    }
}
