//! `mangrove audit`: who changed what, and whether the records of it are whole.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use audit::{Start, Verified, Verifier};
use serde_json::Value;

use crate::{
    args::{AuditExportArguments, AuditFilterArguments, AuditListArguments, AuditWhat},
    client::{Client, with_query},
    commands::{
        counted,
        get::{self, Columns},
    },
    error::Error,
    objects::{AuditRecord, Listed, read_list},
    output::{Output, clean},
};

const PATH: &str = "/api/v1/audit";
/// A page of the root has at most so many.
const LARGEST_PAGE: usize = 1000;

/// Lists, exports or checks records.
pub(crate) async fn run(
    connect: impl FnOnce() -> Result<Client, Error>,
    output: &Output,
    what: AuditWhat,
) -> Result<(), Error> {
    match what {
        AuditWhat::List(arguments) => list(&connect()?, output, &arguments).await,
        AuditWhat::Export(arguments) => export(&connect()?, output, &arguments).await,
        AuditWhat::Verify { file: Some(file) } => verify_file(output, &file),
        AuditWhat::Verify { file: None } => verify(&connect()?, output).await,
    }
}

async fn list(client: &Client, output: &Output, arguments: &AuditListArguments) -> Result<(), Error> {
    let wanted = usize::try_from(arguments.limit.get()).unwrap_or(usize::MAX);
    let mut records: Vec<Listed<AuditRecord>> = Vec::new();
    let mut before: Option<u64> = None;
    while records.len() < wanted {
        let mut pairs = filtered(&arguments.filter);
        pairs.push(("limit", (wanted - records.len()).min(LARGEST_PAGE).to_string()));
        pairs.extend(before.map(|before| ("before", before.to_string())));
        let page = client.get(&with_query(PATH, &pairs)).await?;
        records.extend(read_list(client.root(), &format!("GET {PATH}"), page["records"].clone())?);
        before = page["next"].as_u64();
        if before.is_none() {
            break;
        }
    }
    let columns = Columns {
        headings: &["NUMBER", "TIME", "WHO", "FROM", "CALL", "RESULT", "CHANGED", "REQUEST"],
        narrow: 7,
        row: &|record: &AuditRecord| {
            vec![
                record.sequence.to_string(),
                record.time.clone(),
                record.who(),
                record.from.clone(),
                record.action.clone(),
                record.end(),
                record.changed(),
                record.request.clone(),
            ]
        },
        name: &|record: &AuditRecord| record.sequence.to_string(),
        nothing: "there are no such records",
    };
    get::print(output, arguments.listing.output, &records, &columns)
}

async fn export(client: &Client, output: &Output, arguments: &AuditExportArguments) -> Result<(), Error> {
    let mut pairs = filtered(&arguments.filter);
    pairs.extend(arguments.after.map(|after| ("after", after.to_string())));
    let mut stream = client.stream(&with_query(&format!("{PATH}/export"), &pairs)).await?;
    while let Some(chunk) = stream.chunk().await? {
        output.bytes(&chunk)?;
    }
    Ok(())
}

fn filtered(filter: &AuditFilterArguments) -> Vec<(&'static str, String)> {
    let AuditFilterArguments { organization, user, since } = filter;
    let given = [("organization", organization), ("user", user), ("since", since)];
    given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
}

async fn verify(client: &Client, output: &Output) -> Result<(), Error> {
    let answer = client.get(&format!("{PATH}/verify")).await?;
    if answer["whole"] != Value::Bool(true) {
        let broken = &answer["broken"];
        return Err(Error::BrokenRecords {
            of: client.root().to_owned(),
            sequence: broken["sequence"].as_u64().unwrap_or_default(),
            reason: clean(broken["reason"].as_str().unwrap_or("it is not said why")),
        });
    }
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let hash = clean(answer["hash"].as_str().unwrap_or_default());
    whole(output, number("records"), number("first"), number("last"), &hash)
}

/// Checks an export without the root.
fn verify_file(output: &Output, file: &str) -> Result<(), Error> {
    let unreadable = |source| Error::File { file: file.to_owned(), source };
    let mut lines: Box<dyn BufRead> = match file {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(file).map_err(unreadable)?)),
    };
    let mut verifier = Verifier::new(Start::Anywhere);
    let broken = |broken: audit::Broken| Error::BrokenRecords {
        of: file.to_owned(),
        sequence: broken.sequence,
        reason: clean(&broken.reason.to_string()),
    };
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        verifier.check(line.strip_suffix(b"\n").unwrap_or(&line)).map_err(broken)?;
        line.clear();
    }
    let Verified { records, first, last, is_anchored } = verifier.finish(None).map_err(broken)?;
    whole(output, records, first, last.sequence, &last.hash.to_string())?;
    if !is_anchored {
        output.note(&format!("records before {first} are not in it: check them in the export that has them"));
    }
    Ok(())
}

fn whole(output: &Output, records: u64, first: u64, last: u64, hash: &str) -> Result<(), Error> {
    let count = counted(usize::try_from(records).unwrap_or(usize::MAX), "record");
    output.data(&format!("{count} from {first} to {last}: whole"))?;
    output.note(&format!(
        "the last has the hash {hash}: who keeps it elsewhere can tell later that these are still they"
    ));
    Ok(())
}
