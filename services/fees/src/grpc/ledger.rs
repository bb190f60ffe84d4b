//! `ExportLedger`: every posting, then every balance, all from one state of the database.

use matricula_kit::database::{Database, DbError};
use matricula_proto::fees::v1 as proto;
use matricula_proto::fees::v1::export_ledger_response::Entry;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::wire;
use crate::store::{self, PostingKey};

/// Entries that may wait for a slow reader; the next page is read when there is room.
const ENTRIES_WAITING_MAX: usize = 256;

type Entries = mpsc::Sender<Result<proto::ExportLedgerResponse, Status>>;

/// The reader has gone, or the database failed.
enum Ended {
    ReaderGone,
    Failed(DbError),
}

impl From<DbError> for Ended {
    fn from(error: DbError) -> Self {
        Self::Failed(error)
    }
}

/// Streams the ledger until its end, or until the reader leaves.
pub fn stream(database: Database) -> ReceiverStream<Result<proto::ExportLedgerResponse, Status>> {
    let (entries, reader) = mpsc::channel(ENTRIES_WAITING_MAX);
    tokio::spawn(async move {
        if let Err(Ended::Failed(error)) = export(&database, &entries).await {
            let _ = entries.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(reader)
}

async fn export(database: &Database, entries: &Entries) -> Result<(), Ended> {
    let mut tx = database.snapshot().await?;
    let currency = store::currency(&mut tx).await?;
    let mut after = PostingKey::default();
    loop {
        let page = store::postings_page(&mut tx, after).await?;
        let Some(last) = page.last() else { break };
        after = PostingKey::of(last);
        for posting in page {
            send(entries, Entry::Posting(wire::posting(&currency, posting))).await?;
        }
    }
    let mut after = String::new();
    loop {
        let page = store::balances_page(&mut tx, &after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.student.as_str().to_owned();
        for balance in page {
            send(entries, Entry::Account(wire::account_balance(&currency, balance))).await?;
        }
    }
}

async fn send(entries: &Entries, entry: Entry) -> Result<(), Ended> {
    let message = proto::ExportLedgerResponse { entry: Some(entry) };
    entries.send(Ok(message)).await.map_err(|_| Ended::ReaderGone)
}
