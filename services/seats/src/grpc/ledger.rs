//! The ledger: every section, then every grant, of one state of the database, page by page.

use futures::{Stream, TryStreamExt, stream};
use matricula_kit::database::{DbError, Tx};
use matricula_proto::seats::v1 as wire;
use wire::export_ledger_response::Entry;

use crate::grpc::convert;
use crate::store;

/// Where the next page begins.
enum Cursor {
    Sections { after: String },
    Holds { after: (String, String) },
    End,
}

/// Streams the ledger as `snapshot` sees it.
pub fn export(snapshot: Tx) -> impl Stream<Item = Result<wire::ExportLedgerResponse, DbError>> {
    let begin = Cursor::Sections { after: String::new() };
    let pages = stream::try_unfold((snapshot, begin), |(mut snapshot, cursor)| async move {
        let page = next_page(&mut snapshot, cursor).await?;
        Ok::<_, DbError>(page.map(|(entries, next)| (entries, (snapshot, next))))
    });
    let entries = pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten();
    entries.map_ok(|entry| wire::ExportLedgerResponse { entry: Some(entry) })
}

async fn next_page(snapshot: &mut Tx, cursor: Cursor) -> Result<Option<(Vec<Entry>, Cursor)>, DbError> {
    Ok(match cursor {
        Cursor::Sections { after } => {
            let page = store::page_of_sections(snapshot, &after).await?;
            let next = match page.last() {
                Some(last) => Cursor::Sections { after: last.id.as_str().to_owned() },
                None => Cursor::Holds { after: (String::new(), String::new()) },
            };
            Some((page.into_iter().map(|section| Entry::Section(convert::section(section))).collect(), next))
        }
        Cursor::Holds { after } => {
            let page = store::page_of_holds(snapshot, (&after.0, &after.1)).await?;
            let next = match page.last() {
                Some(last) => Cursor::Holds { after: (last.key.0.as_str().to_owned(), last.key.1.as_str().to_owned()) },
                None => Cursor::End,
            };
            Some((page.into_iter().map(|hold| Entry::Hold(convert::seat_hold(hold))).collect(), next))
        }
        Cursor::End => None,
    })
}
