//! The provider's own thread: a slow TPM stalls nobody else.

use std::sync::Arc;
use std::sync::mpsc as sync_mpsc;

use tokio::sync::mpsc;

use pqc_iiot_core::endpoint::OperationId;
use pqc_iiot_core::provider::{ProviderFailure, ProviderRequest, ProviderResponse};
use pqc_iiot_provider::SecurityProvider;

pub(super) type Answer = (OperationId, Result<ProviderResponse, ProviderFailure>);

/// Runs operations in order. The driver bounds how many are under way.
pub(super) struct ProviderThread {
    operations: sync_mpsc::Sender<(OperationId, ProviderRequest)>,
}

impl ProviderThread {
    pub(super) fn start(
        provider: Arc<dyn SecurityProvider>,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<Answer>)> {
        let (operations, queue) = sync_mpsc::channel::<(OperationId, ProviderRequest)>();
        let (answers, receiver) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("pqc-provider".into()).spawn(move || {
            for (id, request) in queue {
                if answers.send((id, provider.execute(request))).is_err() {
                    return;
                }
            }
        })?;
        Ok((Self { operations }, receiver))
    }

    /// `None` if the thread has ended.
    pub(super) fn submit(&self, id: OperationId, request: ProviderRequest) -> Option<()> {
        self.operations.send((id, request)).ok()
    }
}
