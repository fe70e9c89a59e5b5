//! Tar archives (ustar) of a service's added files, in memory.

use model::AddedFile;

const BLOCK: usize = 512;

/// A file that does not fit into the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("added file `{path}` cannot be put into a container: {reason}")]
pub(crate) struct ArchiveError {
    path: String,
    reason: &'static str,
}

/// An archive of `files`, relative to the container's root, dated `seconds` after 1970. Directories on the way are
/// made by the engine.
pub(crate) fn archive(files: &[AddedFile], seconds: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = Vec::new();
    for file in files {
        let header =
            header(file, seconds).map_err(|reason| ArchiveError { path: file.path.clone(), reason })?;
        archive.extend_from_slice(&header);
        archive.extend_from_slice(file.content.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(file: &AddedFile, seconds: u64) -> Result<[u8; BLOCK], &'static str> {
    let path = file.path.strip_prefix('/').ok_or("its path is not absolute")?;
    if path.is_empty() || path.ends_with('/') {
        return Err("its path names a directory");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("its path contains `..`");
    }
    let (prefix, name) =
        split(path).ok_or("its path is too long; 155 bytes of directories and 100 of name fit")?;
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{:07o}", file.mode & 0o7777).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", file.content.len()).as_bytes());
    put(136, format!("{seconds:011o}").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Splits a path at a slash so that both parts fit their fields.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    fn file(path: &str, content: &str) -> AddedFile {
        AddedFile { path: path.into(), content: content.into(), mode: 0o640 }
    }

    #[test]
    fn tar_reads_what_was_archived() {
        let long = format!("/{}/name", "d".repeat(120));
        let archive = archive(&[file("/etc/motd", "hello\n"), file(&long, "")], 0).expect("both fit");
        let mut tar = Command::new("tar")
            .args(["-tv", "--utc", "--full-time"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar is on every system");
        tar.stdin.take().expect("piped").write_all(&archive).expect("tar reads all");
        let listed = tar.wait_with_output().expect("tar ends").stdout;
        let listed = String::from_utf8(listed).expect("plain text");
        let expected = format!(
            "-rw-r----- 0/0               6 1970-01-01 00:00:00 etc/motd\n\
             -rw-r----- 0/0               0 1970-01-01 00:00:00 {}\n",
            &long[1..]
        );
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for path in ["relative", "/", "/a/", "/a/../../b", &format!("/{}", "n".repeat(101))] {
            assert!(archive(&[file(path, "")], 0).is_err(), "{path}");
        }
    }
}
