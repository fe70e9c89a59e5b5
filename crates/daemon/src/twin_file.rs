//! A small file that is replaced often, and durably each time. To make a new file, rename it and sync its directory takes the
//! disk three times as long as to write over what is there, so there are two places, written in turn: until the new content
//! is whole, the old is in the other one.
//!
//! A place begins with a line that tells which writing it is of, how long its content is, and the SHA-256 of both; the
//! content follows, and empty lines up to a whole block.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest::{Context, SHA256};

use crate::StateDirectory;

/// What file systems give out at a time. Within what a place has there is nothing to be noted but its content.
const BLOCK: usize = 4096;

/// See the module. Nobody else may write to it.
#[derive(Debug)]
pub struct TwinFile {
    directory: Arc<StateDirectory>,
    names: [String; 2],
    /// The last writing, as far as it is known.
    last: Mutex<Option<u64>>,
}

/// What a place holds.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    writing: u64,
    content: Vec<u8>,
}

impl TwinFile {
    /// The file of that name in `directory`, which need not be there yet. Its other place ends in `.other`.
    #[must_use]
    pub fn new(directory: Arc<StateDirectory>, name: &str) -> Self {
        Self { directory, names: [name.to_owned(), format!("{name}.other")], last: Mutex::new(None) }
    }

    /// The content written last; `None` when there is none. An object of JSON alone, without the line before it, is taken as
    /// written before everything else.
    ///
    /// # Errors
    /// What is there cannot be read, or neither place is whole.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let newest = self.newest()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            newest.as_ref().map(|place| place.writing);
        Ok(newest.map(|place| place.content))
    }

    /// Replaces the content; once this returns it survives a crash of the device. After one before that there is the old
    /// content or the new.
    ///
    /// # Errors
    /// When the file system refuses; the old content is still there.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match *last {
            Some(writing) => Some(writing),
            None => self.newest()?.map(|place| place.writing),
        };
        let writing = before.map_or(0, |writing| writing + 1);
        let path = self.path(writing);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
        let mut bytes = line(writing, content).into_bytes();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK).max(length), b'\n');
        file.write_all(&bytes)?;
        file.sync_data()?;
        if is_new {
            File::open(self.directory.path())?.sync_all()?;
        }
        *last = Some(writing);
        Ok(())
    }

    fn path(&self, writing: u64) -> PathBuf {
        let [even, odd] = &self.names;
        self.directory.path().join(if writing.is_multiple_of(2) { even } else { odd })
    }

    fn newest(&self) -> io::Result<Option<Place>> {
        let mut newest: Option<Place> = None;
        let mut broken = false;
        for name in &self.names {
            let Some(bytes) = self.directory.read_file(name)? else { continue };
            match place(&bytes) {
                Some(place) if newest.as_ref().is_none_or(|other| other.writing < place.writing) => {
                    newest = Some(place);
                }
                Some(_) => {}
                None => broken = true,
            }
        }
        if newest.is_none() && broken {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not whole"));
        }
        Ok(newest)
    }
}

fn line(writing: u64, content: &[u8]) -> String {
    let told = format!("{writing} {}", content.len());
    let mut sum = Context::new(&SHA256);
    sum.update(told.as_bytes());
    sum.update(content);
    let sum: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{told} {sum}\n")
}

/// `None` when it is not whole.
fn place(bytes: &[u8]) -> Option<Place> {
    if bytes.first() == Some(&b'{') {
        return Some(Place { writing: 0, content: bytes.to_vec() });
    }
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let told = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = told.split(' ');
    let writing = words.next()?.parse().ok()?;
    let length: usize = words.next()?.parse().ok()?;
    let content = bytes.get(end + 1..)?.get(..length)?;
    (line(writing, content).as_bytes() == &bytes[..=end])
        .then(|| Place { writing, content: content.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(parent: &tempfile::TempDir) -> TwinFile {
        let directory = StateDirectory::open(parent.path()).expect("nobody else has it");
        TwinFile::new(Arc::new(directory), "a.json")
    }

    #[test]
    fn the_last_content_is_read_by_whoever_comes_next() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(open(&parent).read().expect("nothing is no error"), None);
        let long = vec![b'x'; 3 * BLOCK];
        for content in [&b"one"[..], b"two", &long, b"", b"five", b"six"] {
            // Each by one that has not read before.
            open(&parent).replace(content).expect("writable");
            assert_eq!(open(&parent).read().expect("readable"), Some(content.to_vec()));
        }
        let file = open(&parent);
        for content in [&b"seven"[..], b"eight"] {
            file.replace(content).expect("writable");
            assert_eq!(file.read().expect("readable"), Some(content.to_vec()));
        }
    }

    #[test]
    fn a_writing_that_was_cut_short_leaves_the_content_before_it() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let file = open(&parent);
        // Of the same length, so that nothing but the sum tells a mixture from either.
        for content in ["{\"is\":1}", "{\"is\":2}", "{\"is\":3}"] {
            file.replace(content.as_bytes()).expect("writable");
        }
        let (old, new) = (b"{\"is\":3}".to_vec(), b"{\"is\":4}".to_vec());
        let place = parent.path().join("a.json.other");
        let before = std::fs::read(&place).expect("it is there");
        file.replace(&new).expect("writable");
        let after = std::fs::read(&place).expect("it is there");
        assert_eq!(before.len(), after.len());
        for cut in 0..=after.len() {
            std::fs::write(&place, [&after[..cut], &before[cut..]].concat()).expect("writable");
            let read = file.read().expect("one of the two is whole").expect("there");
            let whole = after[cut..] == before[cut..];
            assert_eq!(read, if whole { new.clone() } else { old.clone() }, "cut after {cut} bytes");
        }
    }

    #[test]
    fn what_was_written_before_there_were_two_places_is_read_and_then_replaced() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(parent.path().join("a.json"), "{\"is\":0}").expect("writable");
        let file = open(&parent);
        assert_eq!(file.read().expect("readable"), Some(b"{\"is\":0}".to_vec()));
        for content in ["{\"is\":1}", "{\"is\":2}"] {
            file.replace(content.as_bytes()).expect("writable");
            drop(file.read());
            assert_eq!(file.read().expect("readable"), Some(content.as_bytes().to_vec()));
        }
    }

    #[test]
    fn two_broken_places_are_not_taken_for_nothing() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let file = open(&parent);
        for name in ["a.json", "a.json.other"] {
            std::fs::write(parent.path().join(name), "1 2 3\n{}").expect("writable");
        }
        assert_eq!(file.read().expect_err("neither is whole").kind(), io::ErrorKind::InvalidData);
        assert!(file.replace(b"{}").is_err(), "nor overwritten unread");
    }
}
