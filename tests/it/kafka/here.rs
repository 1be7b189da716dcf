//! A worker in the process of the tests.

use std::sync::Arc;

use gretchen::backend::Backend;
use gretchen::clock::Clock;
use gretchen::plan::Plan;
use gretchen::worker::{self, Recovered, Summary, WorkerEvent, WorkerOptions};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::stage::PATIENCE;

/// A worker in this process, as if it were on a machine of its own.
pub(super) struct Worker {
    pub(super) stop: watch::Sender<bool>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    pub(super) work: JoinHandle<Summary>,
    _folder: TempDir,
}

impl Worker {
    pub(super) fn start((backend, plan): (Arc<dyn Backend>, Plan)) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = mpsc::unbounded_channel();
        let folder = tempfile::tempdir().unwrap();
        let options = WorkerOptions { state_dir: Some(folder.path().to_owned()), ..WorkerOptions::default() };
        let work = tokio::spawn(async move {
            worker::run(&plan, backend, options, Clock::system(), stopped, sender).await.unwrap()
        });
        Self { stop, events, work, _folder: folder }
    }

    /// Waits for an event.
    pub(super) async fn event(&mut self, is: impl Fn(&WorkerEvent) -> bool) -> WorkerEvent {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }

    pub(super) async fn started(&mut self) -> Recovered {
        match self.event(|event| matches!(event, WorkerEvent::Started { .. })).await {
            WorkerEvent::Started { recovered, .. } => recovered,
            _ => unreachable!(),
        }
    }
}
