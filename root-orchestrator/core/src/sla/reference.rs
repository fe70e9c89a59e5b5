//! The tables of fields as users read them, in `docs/sla.md`.

use std::fmt::Write as _;

use super::fields::{CONSTRAINT_TYPES, LEVELS, VIRTUALIZATIONS};

/// All tables as Markdown, for the documentation.
#[must_use]
pub fn reference() -> String {
    let mut page = String::new();
    for level in LEVELS {
        write_line(&mut page, format_args!("### Fields of {}\n", level.noun));
        write_line(
            &mut page,
            format_args!("| field | also | required | support | meaning |\n|---|---|---|---|---|"),
        );
        for field in level.fields {
            let required = if field.required { "yes" } else { "" };
            let aliases: Vec<String> = field.aliases.iter().map(|alias| format!("`{alias}`")).collect();
            write_line(
                &mut page,
                format_args!(
                    "| `{}` | {} | {required} | {} | {} |",
                    field.name,
                    aliases.join(", "),
                    field.support.as_str(),
                    field.about
                ),
            );
        }
        page.push('\n');
    }
    for (name, choices) in [("virtualization", &VIRTUALIZATIONS[..]), ("type", &CONSTRAINT_TYPES[..])] {
        write_line(
            &mut page,
            format_args!("### Values of `{name}`\n\n| value | support | meaning |\n|---|---|---|"),
        );
        for choice in choices {
            write_line(
                &mut page,
                format_args!("| `{}` | {} | {} |", choice.name, choice.support.as_str(), choice.about),
            );
        }
        page.push('\n');
    }
    page
}

fn write_line(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("writing to a string cannot fail");
}
