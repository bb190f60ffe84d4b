//! Writes a file of the archive: under another name first, so that a crash leaves no half of one.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use matricula_kit::time::UnixMs;

use super::{EXTENSION, Line};

/// Characters of a moment that are its day.
const DAY_CHARS: usize = "2026-11-25".len();

/// Writes lines to a new file below `dir` and returns its path from there. When it returns, the file is durable with
/// its name. A file that a crash leaves ends in `.tmp`. No reader opens it, and it can be deleted.
pub(crate) fn write(dir: &Path, now: UnixMs, lines: &[Line]) -> io::Result<String> {
    let moment = now.to_string();
    let day = moment.get(..DAY_CHARS).unwrap_or("undated");
    let folder = dir.join(day);
    let is_first = !dir.exists();
    std::fs::create_dir_all(&folder)?;
    // A name of its own for every attempt: two instances that write the same sagas overwrite nothing of each other.
    let id = uuid::Uuid::now_v7();
    let (temporary, name) = (folder.join(format!("{id}.tmp")), format!("{id}.{EXTENSION}"));
    let written = write_whole(&temporary, lines).and_then(|()| std::fs::rename(&temporary, folder.join(&name)));
    if let Err(error) = written {
        // A full disk should not be fuller for it.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    // The names, too: of the file in its folder, of the folder, and of what it is in.
    File::open(&folder)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    if let Some(above) = dir.parent().filter(|above| is_first && !above.as_os_str().is_empty()) {
        File::open(above)?.sync_all()?;
    }
    Ok(format!("{day}/{name}"))
}

fn write_whole(path: &Path, lines: &[Line]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
