//! Writes a file atomically: there is no partial file under its name, even if the disk is full or the process ends.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// The permissions of a new file, before the umask.
const MODE: u32 = 0o666;

/// A complete file with a temporary name, beside its final place.
pub(crate) struct Written {
    file: NamedTempFile,
    target: PathBuf,
}

impl Written {
    /// Renames it to its final name.
    pub(crate) fn put(self) -> io::Result<()> {
        self.file.persist(self.target).map(drop).map_err(|error| error.error)
    }
}

/// Writes a file, and replaces an existing one after all data is on the disk. A link is followed. A device, a pipe or a
/// terminal is written directly.
pub fn write_whole(target: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    if target.metadata().is_ok_and(|there| !there.is_file()) {
        let mut sink = BufWriter::new(File::options().write(true).open(target)?);
        write(&mut sink)?;
        return sink.flush();
    }
    beside(target, write)?.put()
}

/// Writes a file with a temporary name beside its place. It is removed unless [`Written::put`] is called.
pub(crate) fn beside(target: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<Written> {
    let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        Builder::new().prefix(".matricula-").permissions(Permissions::from_mode(MODE)).tempfile_in(folder)?;
    let mut sink = BufWriter::new(file.as_file_mut());
    write(&mut sink)?;
    sink.flush()?;
    drop(sink);
    // Some file systems report a full disk only here.
    file.as_file().sync_all()?;
    Ok(Written { file, target })
}
