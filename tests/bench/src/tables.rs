//! What tables a database of the system has: asked of the database, so that every migration is followed by itself.

use std::collections::BTreeMap;

use matricula_harness::Sql;

mod store;

/// Columns that say to which registration a row belongs.
const KEYS: [&str; 2] = ["saga_id", "registration_id"];

/// A table.
#[derive(Debug)]
pub(crate) struct Described {
    /// The column that says to which registration a row belongs, if it belongs to one.
    pub(crate) key: Option<&'static str>,
    /// In their order.
    pub(crate) columns: Vec<ColumnOf>,
}

/// A column: a text, or an integer.
#[derive(Debug)]
pub(crate) struct ColumnOf {
    pub(crate) name: String,
    pub(crate) is_int: bool,
}

/// All tables, by name.
pub(crate) async fn describe(sql: &mut Sql) -> BTreeMap<String, Described> {
    let mut tables = BTreeMap::<String, Described>::new();
    for (table, name, kind) in store::columns(sql).await {
        let described = tables.entry(table).or_insert(Described { key: None, columns: Vec::new() });
        described.key = described.key.or(KEYS.into_iter().find(|key| name == *key));
        described.columns.push(ColumnOf { name, is_int: kind.eq_ignore_ascii_case("bigint") });
    }
    tables
}
