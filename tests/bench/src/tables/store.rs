//! Reads the columns of a database.

use matricula_harness::Sql;

const POSTGRES: &str = "SELECT c.relname::text AS tab, a.attname::text AS col, format_type(a.atttypid, NULL) AS kind \
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
     AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY c.relname, a.attnum";
const SQLITE: &str = "SELECT m.name AS tab, c.name AS col, c.type AS kind \
     FROM sqlite_master m JOIN pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid";

/// Table, column and type of every column, in their order.
pub(super) async fn columns(sql: &mut Sql) -> Vec<(String, String, String)> {
    let query = if matches!(sql, Sql::Postgres(_)) { POSTGRES } else { SQLITE };
    let rows = sql.rows(query).await;
    let text = |row: &matricula_kit::database::Row, name| row.text(name).expect("a text");
    rows.iter().map(|row| (text(row, "tab"), text(row, "col"), text(row, "kind"))).collect()
}
