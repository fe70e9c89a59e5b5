//! Shows a rollout on stderr: a block that is repainted on a terminal, a line per change elsewhere.

use std::{collections::BTreeMap, io::Write};

use crate::{
    error::refusal_lines,
    objects::{Instance, Service, Stage},
    output::{Tone, clean},
    rollout::Key,
    terminal::Size,
};

/// What one instance looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    key: Key,
    name: String,
    phase: String,
    tone: Tone,
    /// Where it is reached or what is wrong, in one line.
    detail: String,
    /// More of it, a line each.
    more: Vec<String>,
}

impl Entry {
    /// The entry of one instance.
    pub(crate) fn of(service: &Service, instance: &Instance) -> Self {
        let (detail, more) = match (&instance.reason, instance.stage()) {
            (Some(reason), Stage::Refused) => {
                let mut lines = refusal_lines(reason);
                let headline = lines.remove(0);
                (headline, lines)
            }
            (Some(_) | None, Stage::Running) => (instance.reached_at().join("  "), Vec::new()),
            (Some(_) | None, _) => (instance.detail(), Vec::new()),
        };
        Self {
            key: (service.id.clone(), instance.number),
            name: format!("{} {}/{}", service.application(), service.short_name(), instance.number),
            phase: clean(&instance.phase_in_words()),
            tone: match instance.stage() {
                Stage::Running | Stage::Completed => Tone::Good,
                Stage::Refused | Stage::Unready => Tone::Doubtful,
                Stage::Failing => Tone::Bad,
                Stage::Underway => Tone::Plain,
                Stage::Leaving => Tone::Quiet,
            },
            detail: clean(&detail),
            more: more.iter().map(|line| clean(line)).collect(),
        }
    }

    /// The entry of something that is no instance.
    pub(crate) fn of_line(name: &str, state: &str, tone: Tone, detail: &str) -> Self {
        Self {
            key: (name.to_owned(), 0),
            name: clean(name),
            phase: clean(state),
            tone,
            detail: clean(detail),
            more: Vec::new(),
        }
    }

    /// `name  phase  detail` and what belongs to it, without colours.
    pub(crate) fn lines(&self) -> Vec<String> {
        let first = format!("{}  {}  {}", self.name, self.phase, self.detail).trim_end().to_owned();
        std::iter::once(first)
            .chain(self.more.iter().map(|line| format!("    {}", line.trim_start())))
            .collect()
    }
}

/// Paints on a writer that is a terminal or is not.
#[derive(Debug)]
pub(crate) struct Progress<W> {
    writer: W,
    repaints: bool,
    colours: bool,
    /// What was last written of each instance, for writers that keep everything.
    written: BTreeMap<Key, Vec<String>>,
    /// How many lines above the cursor are ours.
    painted: usize,
}

impl<W: Write> Progress<W> {
    /// Nothing is painted yet.
    pub(crate) fn new(writer: W, repaints: bool, colours: bool) -> Self {
        Self { writer, repaints, colours, written: BTreeMap::new(), painted: 0 }
    }

    /// Shows the entries as they are now. `headline` is shown only where it can be repainted. What cannot be
    /// written is not shown: the deployment does not depend on it.
    pub(crate) fn show(&mut self, headline: &str, entries: &[Entry], size: Size) {
        if self.repaints {
            self.repaint(headline, entries, size);
        } else {
            self.write_changes(entries);
        }
    }

    /// Writes a line that stays, above what is repainted.
    pub(crate) fn note(&mut self, line: &str) {
        let line = format!("{}{}\n", self.erasure(), clean(line));
        self.painted = 0;
        self.write(&line);
    }

    fn write_changes(&mut self, entries: &[Entry]) {
        for entry in entries {
            let lines = entry.lines();
            if self.written.get(&entry.key) != Some(&lines) {
                self.write(&format!("{}\n", lines.join("\n")));
                self.written.insert(entry.key.clone(), lines);
            }
        }
    }

    fn repaint(&mut self, headline: &str, entries: &[Entry], size: Size) {
        let mut lines = vec![self.painted_text(Tone::Quiet, &cut(headline, size.columns))];
        for entry in entries {
            lines.extend(self.painted_lines(entry, size.columns));
        }
        // One row is the cursor's own; a block that scrolls could not be erased again.
        let room = size.rows.saturating_sub(1).max(1);
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(format!("… and {hidden} more lines"));
        }
        let text = format!("{}{}\n", self.erasure(), lines.join("\n"));
        self.painted = lines.len();
        self.write(&text);
    }

    fn painted_lines(&self, entry: &Entry, columns: usize) -> Vec<String> {
        let mut lines: Vec<String> = entry.lines().iter().map(|line| cut(line, columns)).collect();
        let (before, after) = (format!("{}  ", entry.name), format!("{}  {}", entry.name, entry.phase));
        if let Some(rest) = lines[0].strip_prefix(&after) {
            lines[0] = format!("{before}{}{rest}", self.painted_text(entry.tone, &entry.phase));
        }
        lines
    }

    fn painted_text(&self, tone: Tone, text: &str) -> String {
        if self.colours { tone.paint(text) } else { text.to_owned() }
    }

    /// Moves to the first of our lines and clears from there on.
    fn erasure(&self) -> String {
        if self.painted == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.painted) }
    }

    fn write(&mut self, text: &str) {
        drop(self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush()));
    }
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 24, columns: 80 };

    fn entry(number: u64, phase: &str, detail: &str, more: &[&str]) -> Entry {
        Entry {
            key: ("s".to_owned(), number),
            name: format!("a.n s.n/{number}"),
            phase: phase.to_owned(),
            tone: Tone::Good,
            detail: detail.to_owned(),
            more: more.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    fn painted(repaints: bool, colours: bool, paint: impl FnOnce(&mut Progress<&mut Vec<u8>>)) -> String {
        let mut written = Vec::new();
        paint(&mut Progress::new(&mut written, repaints, colours));
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn elsewhere_only_changes_are_written() {
        let text = painted(false, false, |progress| {
            progress.show(
                "never shown",
                &[entry(0, "creating", "", &[]), entry(1, "creating", "", &[])],
                SIZE,
            );
            progress.show(
                "never shown",
                &[entry(0, "creating", "", &[]), entry(1, "running", "x:1", &[])],
                SIZE,
            );
            progress.show("never shown", &[entry(0, "refused", "Code: why", &["  c: no"])], SIZE);
        });
        assert_eq!(
            text,
            "a.n s.n/0  creating\na.n s.n/1  creating\na.n s.n/1  running  x:1\n\
             a.n s.n/0  refused  Code: why\n    c: no\n"
        );
    }

    #[test]
    fn a_terminal_is_repainted_and_notes_stay_above() {
        let text = painted(true, true, |progress| {
            progress.show("head", &[entry(0, "creating", "", &[])], SIZE);
            progress.note("a note");
            progress.show("head", &[entry(0, "running", "x:1", &[])], SIZE);
        });
        assert_eq!(
            text,
            "\x1b[2mhead\x1b[0m\na.n s.n/0  \x1b[32mcreating\x1b[0m\n\
             \x1b[2A\r\x1b[Ja note\n\
             \x1b[2mhead\x1b[0m\na.n s.n/0  \x1b[32mrunning\x1b[0m  x:1\n"
        );
    }

    #[test]
    fn a_block_never_exceeds_the_terminal() {
        let entries: Vec<Entry> =
            (0..9).map(|number| entry(number, "running", "far too long", &[])).collect();
        let text = painted(true, false, |progress| {
            progress.show("head", &entries, Size { rows: 5, columns: 14 });
        });
        assert_eq!(text, "head\na.n s.n/0  ru…\na.n s.n/1  ru…\n… and 7 more lines\n");
    }
}
