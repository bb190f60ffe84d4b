//! The tables of a database of the system, read from the database, so that new migrations need no change here.

use std::collections::BTreeMap;

use matricula_harness::Sql;

mod store;

/// Columns with the registration to which a row belongs.
const KEYS: [&str; 2] = ["saga_id", "registration_id"];

/// A table.
#[derive(Debug)]
pub(crate) struct Described {
    /// The column with the registration to which a row belongs, if the table has one.
    pub(crate) key: Option<&'static str>,
    /// In their order.
    pub(crate) columns: Vec<ColumnOf>,
}

/// A column.
#[derive(Debug)]
pub(crate) struct ColumnOf {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    /// UUIDs, as the bytes of compact ids.
    Id,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "bigint" => Self::Int,
            "bytea" => Self::Id,
            _ => Self::Text,
        }
    }
}

impl Described {
    /// The condition that a row belongs to a registration from the first to the last of these.
    pub(crate) fn is_between(&self, key: &str, first: &str, last: &str) -> String {
        let is_compact = self.columns.iter().any(|column| column.name == key && column.kind == Kind::Id);
        let literal = |id: &str| if is_compact { format!("'\\x{}'", id.replace('-', "")) } else { format!("'{id}'") };
        format!("{key} BETWEEN {} AND {}", literal(first), literal(last))
    }
}

/// The bytes of a UUID; none of an empty id.
pub(crate) fn bytes_of(id: &str) -> Vec<u8> {
    match id.replace('-', "").as_str() {
        "" => Vec::new(),
        digits => u128::from_str_radix(digits, 16).expect("a UUID").to_be_bytes().to_vec(),
    }
}

/// All tables, by name.
pub(crate) async fn describe(sql: &mut Sql) -> BTreeMap<String, Described> {
    let mut tables = BTreeMap::<String, Described>::new();
    for (table, name, kind) in store::columns(sql).await {
        let described = tables.entry(table).or_insert(Described { key: None, columns: Vec::new() });
        described.key = described.key.or(KEYS.into_iter().find(|key| name == *key));
        described.columns.push(ColumnOf { name, kind: Kind::of(&kind) });
    }
    tables
}
