//! What imports read of seats. They write through the one writer, as every other change does.

use matricula_kit::database::{Database, DbError};
use matricula_kit::imports;

use super::SECTIONS;
use crate::domain::Section;

/// Reads every section, and the version of imports that they have.
pub async fn all_sections(database: &Database) -> Result<(i64, Vec<Section>), DbError> {
    let mut snapshot = database.snapshot().await?;
    Ok((imports::version(&mut snapshot).await?, SECTIONS.all(&mut snapshot).await?))
}

/// The version of imports in force.
pub async fn import_version(database: &Database) -> Result<i64, DbError> {
    imports::version(&mut database.snapshot().await?).await
}
