//! Copies the rows of all sagas of a database within it, set-wise, under other ids.

use std::time::Duration;

use matricula_harness::{PATIENCE, Sql};

use crate::tables::{ColumnOf, Described, Kind, describe};

/// The first digits of a UUIDv7 are its time: copies take lower ones, so that they are older.
const TIME_DIGITS: usize = 4;
/// Digits that all ids of some minutes share.
const COMMON_DIGITS: usize = 8;
/// Between two queries whether all messages are delivered.
const LOOK: Duration = Duration::from_millis(50);

/// Ids of the sagas that are copied.
#[derive(Debug, Clone)]
pub(super) struct Sagas {
    first: String,
    last: String,
    /// Their common prefix.
    beginnings: Vec<String>,
}

impl Sagas {
    /// All sagas that there are.
    pub(super) async fn all(url: &str) -> Self {
        let mut sql = Sql::open(url).await;
        let tables = describe(&mut sql).await;
        let is_id = |column: &ColumnOf| column.name == "saga_id" && column.kind == Kind::Id;
        // Not every PostgreSQL has `max` of bytes.
        let text =
            if tables["sagas"].columns.iter().any(is_id) { "encode(saga_id, 'hex')::uuid::text" } else { "saga_id" };
        let query = format!(
            "SELECT substr(id, 1, {COMMON_DIGITS}) AS beginning, min(id) AS first, max(id) AS last \
             FROM (SELECT {text} AS id FROM sagas) AS s GROUP BY 1 ORDER BY 1"
        );
        let rows = sql.rows(&query).await;
        let texts = |name: &str| rows.iter().map(|row| row.text(name).expect("a text")).collect::<Vec<_>>();
        let first = texts("first").first().cloned().expect("there are sagas");
        let last = texts("last").last().cloned().expect("there are sagas");
        Self { first, last, beginnings: texts("beginning") }
    }

    /// The copied text of an expression: with older ids, and other students.
    fn renamed(&self, expression: &str, prefix: &str, copy: u32) -> String {
        let mut renamed = format!("replace({expression}, '{prefix}S0', '{prefix}{copy}S0')");
        for beginning in &self.beginnings {
            let older = format!("{copy:0TIME_DIGITS$x}{}", &beginning[TIME_DIGITS..]);
            assert!(older < *beginning, "there are no {copy} older ids");
            renamed = format!("replace({renamed}, '{beginning}-', '{older}-')");
        }
        renamed
    }
}

/// Waits until every message is delivered, so that the copied sagas are complete.
pub(super) async fn delivered(url: &str) {
    let mut sql = Sql::open(url).await;
    let delivering = async {
        while sql.number("SELECT count(*) FROM messages WHERE next_delivery_at IS NOT NULL").await > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, delivering).await.expect("every message is delivered");
}

/// Copies everything this many times.
pub(super) async fn copy(url: &str, sagas: &Sagas, prefix: &str, copies: u32) {
    let mut sql = Sql::open(url).await;
    let tables = describe(&mut sql).await;
    // No caller waits for these commits, and nothing is measured while they are made.
    if matches!(sql, Sql::Postgres(_)) {
        sql.run("SET synchronous_commit = off").await;
    }
    for copy in 1..=copies {
        let statements: Vec<String> =
            tables.iter().filter_map(|(name, table)| statement(name, table, sagas, prefix, copy)).collect();
        sql.run(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await;
    }
    if tables.contains_key("sections") && tables.contains_key("holds") {
        let factor = copies + 1;
        let set = format!("capacity = capacity * {factor}, taken = taken * {factor}");
        sql.run(&format!("UPDATE sections SET {set} WHERE section_id LIKE '{prefix}%'")).await;
    }
    let freshen = if matches!(sql, Sql::Postgres(_)) { "VACUUM ANALYZE" } else { "ANALYZE" };
    sql.run(freshen).await;
}

/// Inserts one copy of the rows of a table; nothing if the table has no rows of registrations.
fn statement(name: &str, table: &Described, sagas: &Sagas, prefix: &str, copy: u32) -> Option<String> {
    let rows = match table.key {
        Some(key) => table.is_between(key, &sagas.first, &sagas.last),
        // The balances of the students.
        None if name == "accounts" => format!("student_id LIKE '{prefix}S0%'"),
        None => return None,
    };
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let values = table.columns.iter().map(|ColumnOf { name, kind }| match kind {
        Kind::Int => name.clone(),
        Kind::Text => sagas.renamed(name, prefix, copy),
        // An empty id belongs to no registration.
        Kind::Id => {
            let older =
                format!("overlay({name} PLACING '\\x{copy:0TIME_DIGITS$x}'::bytea FROM 1 FOR {})", TIME_DIGITS / 2);
            format!("CASE WHEN {name} = '' THEN {name} ELSE {older} END")
        }
    });
    let values = values.collect::<Vec<_>>().join(", ");
    Some(format!("INSERT INTO {name} ({}) SELECT {values} FROM {name} WHERE {rows}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_older_and_of_other_students() {
        let beginnings = vec!["01a20394".to_owned()];
        let sagas = Sagas { first: "a".to_owned(), last: "b".to_owned(), beginnings };
        assert_eq!(
            sagas.renamed("id", "FILL", 17),
            "replace(replace(id, 'FILLS0', 'FILL17S0'), '01a20394-', '00110394-')"
        );
    }
}
