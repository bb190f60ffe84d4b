//! `ExportLedger`: every posting, then every balance, all from one state of the database, page by page.

use futures::{Stream, TryStreamExt as _, stream};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_proto::fees::v1 as proto;
use matricula_proto::fees::v1::export_ledger_response::Entry;

use super::wire;
use crate::domain::price::Currency;
use crate::store::{self, PostingKey};

/// An export under way.
struct Export {
    snapshot: Tx,
    currency: Currency,
    next: Next,
}

/// Where the next page begins.
enum Next {
    Postings { after: PostingKey },
    Balances { after: String },
}

/// Begins an export of what is committed now.
pub async fn stream(
    database: &Database,
) -> Result<impl Stream<Item = Result<proto::ExportLedgerResponse, DbError>> + use<>, DbError> {
    let mut snapshot = database.snapshot().await?;
    let currency = store::currency(&mut snapshot).await?;
    let begin = Export { snapshot, currency, next: Next::Postings { after: PostingKey::default() } };
    let pages = stream::try_unfold(begin, |mut export| async move {
        let page = export.next_page().await?;
        Ok::<_, DbError>(page.map(|page| (page, export)))
    });
    let entries = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    Ok(entries.map_ok(|entry| proto::ExportLedgerResponse { entry: Some(entry) }))
}

impl Export {
    /// None after the last page. A page may be empty.
    async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, DbError> {
        match &self.next {
            Next::Postings { after } => {
                let page = store::postings_page(&mut self.snapshot, after.clone()).await?;
                self.next = match page.last() {
                    Some(last) => Next::Postings { after: PostingKey::of(last) },
                    None => Next::Balances { after: String::new() },
                };
                let entry = |posting| Entry::Posting(wire::posting(&self.currency, posting));
                Ok(Some(page.into_iter().map(entry).collect()))
            }
            Next::Balances { after } => {
                let page = store::balances_page(&mut self.snapshot, after).await?;
                let Some(last) = page.last() else { return Ok(None) };
                self.next = Next::Balances { after: last.student.as_str().to_owned() };
                let entry = |balance| Entry::Account(wire::account_balance(&self.currency, balance));
                Ok(Some(page.into_iter().map(entry).collect()))
            }
        }
    }
}
