//! Writes a file whole or not at all: no half of a file is under its name, whether the disk was full or the program was ended
//! in the middle.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// What a new file may be read and written by, before the process's mask: as for every other file.
const MODE: u32 = 0o666;

/// A file that is written beside its place, and not yet there.
pub(crate) struct Written {
    file: NamedTempFile,
    target: PathBuf,
}

impl Written {
    /// Puts it into its place.
    pub(crate) fn put(self) -> io::Result<()> {
        self.file.persist(self.target).map(drop).map_err(|error| error.error)
    }
}

/// Writes a file, replacing the one that is there only when all is on the disk. A link is followed; a device, a pipe or a
/// terminal is written to as it is.
pub fn write_whole(target: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    if target.metadata().is_ok_and(|there| !there.is_file()) {
        let mut sink = BufWriter::new(File::options().write(true).open(target)?);
        write(&mut sink)?;
        return sink.flush();
    }
    beside(target, write)?.put()
}

/// Writes a file beside its place. It is gone when it is not put there.
pub(crate) fn beside(target: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<Written> {
    let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        Builder::new().prefix(".matricula-").permissions(Permissions::from_mode(MODE)).tempfile_in(folder)?;
    let mut sink = BufWriter::new(file.as_file_mut());
    write(&mut sink)?;
    sink.flush()?;
    drop(sink);
    // Some file systems say only now that they are full.
    file.as_file().sync_all()?;
    Ok(Written { file, target })
}
