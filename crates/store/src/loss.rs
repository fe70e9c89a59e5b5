//! How a backend tells that its store can no longer be written.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{BoxFuture, StoreError};

/// The end that tells.
pub(crate) type Loser = watch::Sender<Option<Arc<StoreError>>>;

/// The end that is told.
#[derive(Debug, Clone)]
pub(crate) struct Loss(watch::Receiver<Option<Arc<StoreError>>>);

/// Both.
pub(crate) fn channel() -> (Loser, Loss) {
    let (loser, loss) = watch::channel(None);
    (loser, Loss(loss))
}

impl Loss {
    /// See [`Store::lost`](crate::Store::lost).
    pub(crate) fn told(&self) -> BoxFuture<'static, StoreError> {
        let mut loss = self.0.clone();
        Box::pin(async move {
            match loss.wait_for(Option::is_some).await.map(|loss| loss.clone()) {
                Ok(Some(error)) => error.again(),
                Ok(None) | Err(_) => gone(),
            }
        })
    }

    /// Why nothing is answered any more.
    pub(crate) fn why(&self) -> StoreError {
        self.0.borrow().as_ref().map_or_else(gone, |error| error.again())
    }
}

fn gone() -> StoreError {
    StoreError::Backend("the store was closed".into())
}
