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

/// A column.
#[derive(Debug)]
pub(crate) struct ColumnOf {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    /// An id in its bytes, which is a text to its readers.
    Id,
}

impl Kind {
    fn of(kind: &str) -> Self {
        match kind.to_ascii_lowercase().as_str() {
            "bigint" => Self::Int,
            "bytea" => Self::Id,
            _ => Self::Text,
        }
    }

    /// The SQL of a value of this kind that is a text as SQL.
    pub(crate) fn of_text(self, text: &str) -> String {
        match self {
            Self::Text | Self::Int => text.to_owned(),
            Self::Id => format!("decode(replace({text}, '-', ''), 'hex')"),
        }
    }

    /// The SQL of a column of this kind as a text. Ids of registrations are UUIDs; where there may be none, no bytes are.
    pub(crate) fn to_text(self, column: &str) -> String {
        match self {
            Self::Text | Self::Int => column.to_owned(),
            Self::Id => {
                format!("CASE WHEN length({column}) = 0 THEN '' ELSE encode({column}, 'hex')::uuid::text END")
            }
        }
    }
}

impl Described {
    /// The SQL that finds the rows of the registrations from one to another; none when no row belongs to any.
    pub(crate) fn is_between(&self, first: &str, last: &str) -> Option<String> {
        let key = self.columns.iter().find(|column| Some(column.name.as_str()) == self.key)?;
        let [first, last] = [first, last].map(|id| key.kind.of_text(&format!("'{id}'")));
        Some(format!("{} BETWEEN {first} AND {last}", key.name))
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
