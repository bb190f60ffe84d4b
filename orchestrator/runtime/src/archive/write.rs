//! Writes a file of the archive: under another name first, so that a crash leaves no incomplete file.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use matricula_kit::time::UnixMs;

use super::{EXTENSION, Line};

/// The length of the day at the begin of a formatted time.
const DAY_CHARS: usize = "2026-11-25".len();

/// Writes lines to a new file below `dir` and returns its path from there. When it returns, the file is durable with
/// its name. A file that a crash leaves ends in `.tmp`. No reader opens it, and it can be deleted.
pub(crate) fn write(dir: &Path, now: UnixMs, lines: &[Line]) -> io::Result<String> {
    let moment = now.to_string();
    let day = moment.get(..DAY_CHARS).unwrap_or("undated");
    let folder = dir.join(day);
    let is_first = !dir.exists();
    std::fs::create_dir_all(&folder)?;
    // Every attempt has its own name, so that two instances that write the same sagas do not overwrite each other's
    // files.
    let id = uuid::Uuid::now_v7();
    let (temporary, name) = (folder.join(format!("{id}.tmp")), format!("{id}.{EXTENSION}"));
    let written = write_whole(&temporary, lines).and_then(|()| std::fs::rename(&temporary, folder.join(&name)));
    if let Err(error) = written {
        // After a failed write no file stays on the disk, which may be full.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    // The names must be durable too: of the file, of its folder, and of the folder's parent.
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
