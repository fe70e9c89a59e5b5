//! What holds for every source file: it opens with its purpose, and it is short enough to read at once.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::check::Finding;

/// Beyond this a file is split by responsibility, or says in its header why not.
const LONGEST: usize = 500;

/// Opens a header line that says why the file is long.
const LONG_BECAUSE: &str = "//! long:";

/// Violations in every `.rs` file below `root` that is not built or hidden.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() {
                let skipped = name.starts_with('.') || name == "target" || name == "node_modules";
                if !skipped && !path.is_symlink() {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                findings.extend(check_file(&shown, &text));
            }
        }
    }
    findings.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(findings)
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let lines = text.lines().count();
    let excused = header.iter().any(|line| line.starts_with(LONG_BECAUSE));
    let mut findings = Vec::new();
    if header.is_empty() {
        let remedy = "begin with `//!`: what it is for, and where the other half lives";
        findings.push(Finding::new(path, "does not open with its purpose", remedy));
    }
    if lines > LONGEST && !excused {
        let remedy =
            format!("split it by responsibility, or say why not in a header line `{LONG_BECAUSE} …`");
        findings.push(Finding::new(path, &format!("has {lines} lines, more than {LONGEST}"), &remedy));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        check_file("a.rs", text).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(problems("fn main() {}\n"), ["does not open with its purpose"]);
        assert_eq!(problems("//! The start.\nfn main() {}\n"), [""; 0]);
    }

    #[test]
    fn a_long_file_says_why_or_is_found() {
        let body = "fn one_more() {}\n".repeat(LONGEST);
        assert_eq!(problems(&format!("//! All.\n{body}")), ["has 501 lines, more than 500"]);
        assert_eq!(problems(&format!("//! All.\n//! long: one table.\n{body}")), [""; 0]);
    }
}
