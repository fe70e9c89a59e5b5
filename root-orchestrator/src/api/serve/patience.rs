//! For how long the API waits for a client. There are so many places for connections, and whoever holds one without getting
//! on gives it back: somebody who sends next to nothing, or takes nothing, keeps nobody else out.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// How long each part may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a handshake.
    pub(crate) handshake: Duration,
    /// Until a connection has sent the whole head of a request, the first or another.
    pub(crate) head: Duration,
    /// Until the body of a request is there, since its head was.
    pub(crate) body: Duration,
    /// For taking another part of an answer.
    pub(crate) taking: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            // Longer than clients keep a connection that they do not use (90 s), so that none is closed while a request is
            // on its way.
            head: Duration::from_secs(120),
            // The longest, of 4 MiB, by 300 kbit/s.
            body: Duration::from_secs(120),
            // Longer than a radio link is away now and then.
            taking: Duration::from_secs(120),
        }
    }
}

/// Why the body of a request is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body of the request is not there in time")]
    Late,
    #[error("the body of the request breaks off")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// Whether that is the reason, or behind it.
    pub(crate) fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut reasons = std::iter::successors(Some(error), |error| error.source());
        reasons.any(|reason| matches!(reason.downcast_ref(), Some(Self::Late)))
    }
}

/// The body of a request, which is waited for until a moment.
pub(super) struct TimelyBody {
    body: Incoming,
    ends: Pin<Box<Sleep>>,
}

impl TimelyBody {
    pub(super) fn new(body: Incoming, within: Duration) -> Self {
        Self { body, ends: Box::pin(sleep_until(Instant::now() + within)) }
    }
}

impl Body for TimelyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| Ok(frame?)));
        }
        ready!(self.ends.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::Late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that breaks when the other end takes nothing of what is written.
pub(super) struct Taken<S> {
    stream: S,
    within: Duration,
    /// Since something waits to be taken.
    ends: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    pub(super) const fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, ends: None }
    }

    /// What became of an attempt, unless it waits for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, attempt: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.ends = None;
            return attempt;
        }
        let within = self.within;
        ready!(self.ends.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of the answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, attempt)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, attempt)
    }
}
