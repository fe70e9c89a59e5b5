//! Reads server-sent events from chunks of bytes, as far as the root uses them: `event`, `data` and comments.

/// More than the largest service document with all its instances; beyond it the stream is no event stream.
const LARGEST_EVENT: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind; `message` unless the root names one.
    pub(crate) kind: String,
    /// Its data lines, joined.
    pub(crate) data: String,
}

/// Collects chunks until events are whole.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    unfinished: Vec<u8>,
    kind: String,
    data: Option<String>,
}

/// An event grew beyond every bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Parser {
    /// Takes one chunk and gives the events it completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.unfinished);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
            }
            if self.unfinished.len() + self.data.as_ref().map_or(0, String::len) > LARGEST_EVENT {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            return self.data.take().map(|data| Event { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments (`: keep-alive`), ids and retry times say nothing a watch needs.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text =
            ": hi\n\nevent: service\r\ndata: {\"a\":\r\ndata: \"é\"}\r\n\r\nid: 1\ndata:x\n\nevent: e\n\n";
        let expected = [event("service", "{\"a\":\n\"é\"}"), event("message", "x")];
        for size in [1, 2, 3, 7, text.len()] {
            let mut parser = Parser::default();
            let events: Vec<Event> =
                text.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(events, expected, "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let megabyte = vec![b'x'; 1 << 20];
        let outcome: Result<Vec<_>, TooLarge> = (0..17).map(|_| parser.push(&megabyte)).collect();
        assert_eq!(outcome, Err(TooLarge));
    }
}
