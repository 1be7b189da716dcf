//! An agent's own wake-ups: a time-out of its own or an answer from elsewhere, also while the worker waits for records.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// Between the agent's waker and that of its task.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

impl Wakes {
    /// Polls the agent, which has then seen all wake-ups so far.
    pub(super) fn poll<T>(
        &self,
        waker: &Waker,
        cx: &Context<'_>,
        agent: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.task.register(cx.waker());
        self.woken.store(false, Ordering::SeqCst);
        agent(&mut Context::from_waker(waker))
    }

    /// Waits until the agent should be polled. Cancel-safe.
    pub(super) async fn woken(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.woken.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
