//! Reads an SLA file as far as the client must understand it: which applications and services it names. Everything else
//! in it is judged by the root.

use std::{
    fmt, fs,
    io::{self, Read as _},
};

use serde_json::Value;

use crate::{error::Error, objects::Service};

/// An SLA and the applications in it, in the order of the file and at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sla {
    /// What the user calls the file.
    pub(crate) file: String,
    /// The whole document.
    pub(crate) document: Value,
    /// Its applications.
    pub(crate) applications: Vec<SlaApplication>,
}

/// One application of an SLA.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SlaApplication {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// As written.
    pub(crate) document: Value,
}

impl Sla {
    /// Reads `file`; `-` is standard input.
    pub(crate) fn read(file: &str) -> Result<Self, Error> {
        let (name, text) = content(file)?;
        Self::parse(name, &text)
    }

    fn parse(file: &str, text: &[u8]) -> Result<Self, Error> {
        Self::of_document(file, json(file, text)?)
    }

    fn of_document(file: &str, document: Value) -> Result<Self, Error> {
        let wrong = |problem: String| Error::NotAnSla { file: file.to_owned(), problem };
        let applications = match document.get("applications") {
            Some(Value::Array(applications)) if !applications.is_empty() => applications,
            Some(Value::Array(_)) => return Err(wrong("its `applications` are empty".to_owned())),
            Some(_) => return Err(wrong("its `applications` are not an array".to_owned())),
            None => return Err(wrong("it has no `applications`".to_owned())),
        };
        let application = |(index, application): (usize, &Value)| {
            let text = |key: &str| match application[key].as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(wrong(format!("`applications[{index}].{key}` is missing or not a text"))),
            };
            Ok(SlaApplication {
                name: text("application_name")?,
                namespace: text("application_namespace")?,
                document: application.clone(),
            })
        };
        let applications = applications.iter().enumerate().map(application).collect::<Result<_, Error>>()?;
        Ok(Self { file: file.to_owned(), document, applications })
    }

    /// The same SLA with only the applications `keep` holds for.
    pub(crate) fn limited_to(&self, keep: impl Fn(&SlaApplication) -> bool) -> Value {
        let kept = self.applications.iter().filter(|application| keep(application));
        let mut document = self.document.clone();
        document["applications"] = kept.map(|application| application.document.clone()).collect();
        document
    }
}

impl SlaApplication {
    /// `name.namespace`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// Its services as written.
    pub(crate) fn services(&self) -> &[Value] {
        self.document["microservices"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// Reads what `file` says of a service: from an SLA the one of its name, else the whole document.
pub(crate) fn read_service(file: &str, service: &Service) -> Result<Value, Error> {
    let (name, text) = content(file)?;
    service_in(name, json(name, &text)?, service)
}

fn service_in(file: &str, document: Value, service: &Service) -> Result<Value, Error> {
    if document.get("microservice_name").is_some() && document.get("applications").is_none() {
        return Ok(document);
    }
    let sla = Sla::of_document(file, document)?;
    let mut described = Vec::new();
    for application in &sla.applications {
        for wanted in application.services() {
            let full_name = format!("{}.{}", application.full_name(), short_name(wanted));
            if full_name == service.full_name() {
                return Ok(wanted.clone());
            }
            described.push(full_name);
        }
    }
    Err(Error::NotInFile { file: file.to_owned(), service: service.full_name(), described })
}

/// `service.namespace` of a service as written.
pub(crate) fn short_name(service: &Value) -> String {
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    format!("{}.{}", text("microservice_name"), text("microservice_namespace"))
}

/// What the user calls the file, and what is in it.
pub(crate) fn content(file: &str) -> Result<(&str, Vec<u8>), Error> {
    let mut text = Vec::new();
    let (name, outcome) = match file {
        "-" => ("standard input", io::stdin().read_to_end(&mut text).map(|_| ())),
        path => (path, fs::read(path).map(|content| text = content)),
    };
    outcome.map_err(|source| Error::File { file: name.to_owned(), source })?;
    Ok((name, text))
}

fn json(file: &str, text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Json(JsonMistake::new(file, text, &error)))
}

/// Where and why a text is no JSON, with the line it happened in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonMistake {
    file: String,
    line: usize,
    column: usize,
    problem: String,
    excerpt: String,
}

impl JsonMistake {
    /// Longer lines are cut, since a caret under column 5000 helps nobody.
    const LONGEST_EXCERPT: usize = 120;

    fn new(file: &str, text: &[u8], error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let problem = error.to_string();
        let suffix = format!(" at line {line} column {column}");
        let excerpt = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
        Self {
            file: file.to_owned(),
            line,
            column,
            problem: problem.strip_suffix(&suffix).unwrap_or(&problem).to_owned(),
            excerpt: String::from_utf8_lossy(excerpt).trim_end().replace('\t', " "),
        }
    }
}

impl fmt::Display for JsonMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, problem, excerpt } = self;
        write!(f, "{file}:{line}:{column} is not valid JSON: {problem}")?;
        if excerpt.is_empty() || *column > Self::LONGEST_EXCERPT {
            return Ok(());
        }
        let shown: String = excerpt.chars().take(Self::LONGEST_EXCERPT).collect();
        // The column counts bytes; the caret must count characters.
        let before_caret = excerpt.char_indices().take_while(|(index, _)| index + 1 < *column).count();
        let margin = line.to_string().len();
        write!(f, "\n  {line} | {shown}\n  {:margin$} | {:before_caret$}^", "", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let text = "{\n  \"é\": 1\n  \"b\": 2\n}";
        let error = Sla::parse("a.json", text.as_bytes()).expect_err("a comma is missing");
        assert_eq!(
            error.to_string(),
            "a.json:3:3 is not valid JSON: expected `,` or `}`\n  3 |   \"b\": 2\n    |   ^"
        );
    }

    #[test]
    fn an_empty_file_has_no_line_to_show() {
        let error = Sla::parse("a.json", b"").expect_err("nothing is no JSON");
        assert_eq!(error.to_string(), "a.json:1:0 is not valid JSON: EOF while parsing a value");
    }

    #[test]
    fn json_without_applications_is_no_sla() {
        let problem = |text: &str| match Sla::parse("f", text.as_bytes()) {
            Err(Error::NotAnSla { problem, .. }) => problem,
            other => panic!("{text} was read as {other:?}"),
        };
        assert_eq!(problem("{}"), "it has no `applications`");
        assert_eq!(problem("[]"), "it has no `applications`");
        assert_eq!(problem(r#"{"applications":{}}"#), "its `applications` are not an array");
        assert_eq!(problem(r#"{"applications":[]}"#), "its `applications` are empty");
        assert_eq!(
            problem(r#"{"applications":[{"application_name":"a","application_namespace":1}]}"#),
            "`applications[0].application_namespace` is missing or not a text"
        );
    }
}
