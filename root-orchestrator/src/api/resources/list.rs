//! Lists of objects, whole and in parts. A part goes on behind an object as of a revision, whatever has changed since: what
//! there is now is in memory, and the log of the store says what to undo of it.

use std::{cmp::Ordering, collections::BTreeMap, convert::Infallible, iter};

use ::resources::{
    Status,
    page::{self, Token},
    selector::Selector,
};
use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use model::OrganizationId;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};
use store::Revision;

use super::{
    super::Context,
    Answer, Failure,
    answer::{Form, answered},
    asked::Asked,
    kinds::{Served, Source, Whose},
    rows::{self, Listed, Namespaces, Row},
    views::View,
};
use crate::{auth::Caller, documents};

/// Changes read at once: bounds what is held in memory beside the list.
const CHANGES_AT_ONCE: usize = 500;
/// Objects written at once: a longer list is sent in pieces, so that it is never in memory as text.
const OBJECTS_AT_ONCE: usize = 500;

/// What is to be listed, and for whom.
pub(super) struct Wanted {
    pub(super) caller: Caller,
    pub(super) served: Served,
    pub(super) whose: Whose,
    pub(super) selector: Selector,
}

/// Behind which object a list goes on.
type Cursor = (Option<OrganizationId>, String);

/// What the first change of each since a revision says that it was; nothing where there was none.
type Past = BTreeMap<Cursor, Option<Row>>;

/// Objects that were selected, in their order.
struct Selection<'a> {
    wanted: &'a Wanted,
    most: usize,
    rows: Vec<Row>,
    /// Those for which there was no room; at least one of them if not everything is selected.
    more: usize,
}

/// Lists objects.
pub(super) async fn list(context: &Context, wanted: &Wanted, asked: &Asked) -> Answer {
    let options = &asked.options;
    let token = match options.continues.as_str() {
        "" => None,
        text => Some(Token::read(text)?),
    };
    let exact = token.as_ref().map(|token| token.revision).or(options.revision.filter(|_| options.is_exact));
    let after = token.as_ref().map(|token| read_cursor(&token.after)).transpose()?;
    let most = options.limit.unwrap_or(usize::MAX);
    let mut selection = Selection { wanted, most, rows: Vec::new(), more: 0 };
    let (namespaces, revision) =
        select(context, &mut selection, exact, options.revision, after.as_ref()).await?;
    let Selection { rows, more, .. } = selection;
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(last) = rows.last().filter(|_| more > 0) {
        metadata["continue"] = Value::from(Token { revision, after: write_cursor(last) }.write());
        if wanted.selector.is_everything() {
            metadata["remainingItemCount"] = Value::from(more);
        }
    }
    let served = &wanted.served;
    match asked.form {
        Form::Whole => Ok(written(served.clone(), rows, namespaces, &metadata)),
        Form::Table(_) | Form::Metadata => {
            let objects = rows.iter().map(|row| served.shown(row, &namespaces)).collect();
            Ok(answered(StatusCode::OK, &asked.form.list(&served.kind, objects, metadata), &[]))
        }
    }
}

/// Selects among all objects of a kind as of one revision: exactly that one, or the newest, which is at least `least`. The
/// names of organisations, and which revision it is.
async fn select(
    context: &Context,
    selection: &mut Selection<'_>,
    exact: Option<u64>,
    least: Option<u64>,
    after: Option<&Cursor>,
) -> Result<(Namespaces, u64), Failure> {
    let served = &selection.wanted.served;
    let (namespaces, first) = {
        let state = context.brain.read().await;
        let newest = state.revision();
        if let Some(asked) = least.filter(|asked| *asked > newest) {
            return Err(page::too_large(asked, newest).into());
        }
        let namespaces = rows::namespaces(&state);
        // Of what has happened there is no past.
        let is_now = exact.is_none_or(|exact| exact == newest) || served.source == Source::View(View::Events);
        if is_now {
            selection.offer(served.rows_behind(&state, after), &namespaces);
            return Ok((namespaces, newest));
        }
        (namespaces, rows::first_organization(&state))
    };
    let revision = exact.unwrap_or_default();
    match served.source {
        Source::Objects => {
            select_at(context, selection, revision, after, &namespaces).await?;
        }
        Source::Organizations => {
            let documents = context.store.list_at(documents::ORGANIZATIONS, Revision(revision)).await?;
            let rows = documents.iter().filter_map(|it| served.read(&it.value, it.revision.0));
            let mut rows: Vec<Row> = rows.filter(|row| row.is_behind(after)).collect();
            rows.sort_by(|one, other| one.cursor().cmp(&other.cursor()));
            selection.offer(rows.into_iter().map(Listed::Made), &namespaces);
        }
        Source::View(_) => {
            let state = documents::viewed_at(context.store.as_ref(), first, Revision(revision)).await?;
            selection.offer(served.rows_behind(&state, after), &namespaces);
        }
    }
    Ok((namespaces, revision))
}

impl Selection<'_> {
    /// Takes those that are selected, as long as there is room, and counts the others.
    fn offer<'a>(&mut self, listed: impl Iterator<Item = Listed<'a>>, namespaces: &Namespaces) {
        let Wanted { caller, served, whose, selector } = self.wanted;
        let mut listed = listed.filter(|it| served.shows(caller, whose, it.owner()));
        if selector.is_everything() {
            self.rows.extend(listed.by_ref().take(self.most).map(Listed::into_row));
            self.more = listed.count();
            return;
        }
        for row in listed.map(Listed::into_row) {
            if !selector.admits(&served.shown(&row, namespaces)) {
                continue;
            }
            if self.rows.len() == self.most {
                // Nobody is told how many.
                self.more = 1;
                return;
            }
            self.rows.push(row);
        }
    }
}

/// Selects among objects as they were at a revision: those there are now, with what has changed since undone.
async fn select_at(
    context: &Context,
    selection: &mut Selection<'_>,
    revision: u64,
    after: Option<&Cursor>,
    namespaces: &Namespaces,
) -> Result<(), Failure> {
    let served = &selection.wanted.served;
    let (mut were, mut at) = (Past::new(), Revision(revision));
    loop {
        let newest = {
            let state = context.brain.read().await;
            let newest = state.revision();
            if revision > newest {
                return Err(page::too_large(revision, newest).into());
            }
            // Changes that the state does not have yet are undone as well: it is what they say that it was.
            if at.0 >= newest {
                were.retain(|_, was| was.as_ref().is_none_or(|row| row.is_behind(after)));
                selection.offer(undone(served.rows_behind(&state, after), were), namespaces);
                return Ok(());
            }
            newest
        };
        while at.0 < newest {
            let changes = context.store.changes(at, CHANGES_AT_ONCE).await?;
            at = changes.last().map_or(Revision(newest), |last| last.revision);
            for change in changes.iter().filter(|change| served.is_of(&change.collection, &change.key)) {
                let was = change.before.as_ref().and_then(|it| served.read(&it.value, it.revision.0));
                let is = || change.value.as_deref().and_then(|value| served.read(value, change.revision.0));
                if let Some(Row { organization, name, .. }) = was.clone().or_else(is) {
                    were.entry((organization, name)).or_insert(was);
                }
            }
        }
    }
}

/// Of objects in their order those that have not changed since, and in their places what the others were.
fn undone<'a>(present: impl Iterator<Item = Listed<'a>>, were: Past) -> impl Iterator<Item = Listed<'a>> {
    let (mut present, mut were) = (present.peekable(), were.into_iter().peekable());
    iter::from_fn(move || {
        loop {
            let order = match (present.peek(), were.peek()) {
                (Some(is), Some(((organization, name), _))) => is.cursor().cmp(&(*organization, name)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            if order == Ordering::Less {
                return present.next();
            }
            if order == Ordering::Equal {
                present.next();
            }
            if let Some((_, Some(was))) = were.next() {
                return Some(Listed::Made(was));
            }
        }
    })
}

fn write_cursor(row: &Row) -> String {
    let organization = row.organization.map(|id| id.to_string()).unwrap_or_default();
    format!("{organization}/{}", row.name)
}

fn read_cursor(text: &str) -> Result<Cursor, Status> {
    let read = || {
        let (organization, name) = text.split_once('/')?;
        let organization = match organization {
            "" => None,
            id => Some(id.parse().ok()?),
        };
        Some((organization, name.to_owned()))
    };
    read().ok_or_else(|| Status::bad_request("continue key is not valid: list anew without it"))
}

/// A list as JSON, written object by object.
fn written(served: Served, rows: Vec<Row>, namespaces: Namespaces, metadata: &Value) -> Response {
    let (kind, api_version) = (json!(served.kind.names.list_kind), json!(served.kind.api_version()));
    let head = format!(r#"{{"kind":{kind},"apiVersion":{api_version},"metadata":{metadata},"items":["#);
    let headers = [(header::CONTENT_TYPE, "application/json")];
    if rows.len() <= OBJECTS_AT_ONCE {
        let mut text = head.into_bytes();
        write_rows(&mut text, &served, &rows, &namespaces);
        text.extend_from_slice(b"]}");
        return (headers, Bytes::from(text)).into_response();
    }
    let mut text = head.into_bytes();
    let mut begun = 0;
    let pieces = iter::from_fn(move || {
        if begun >= rows.len() {
            return None;
        }
        let end = rows.len().min(begun + OBJECTS_AT_ONCE);
        if begun > 0 {
            text.push(b',');
        }
        write_rows(&mut text, &served, &rows[begun..end], &namespaces);
        begun = end;
        if begun >= rows.len() {
            text.extend_from_slice(b"]}");
        }
        Some(Ok::<_, Infallible>(Bytes::from(std::mem::take(&mut text))))
    });
    (headers, Body::from_stream(stream::iter(pieces))).into_response()
}

fn write_rows(text: &mut Vec<u8>, served: &Served, rows: &[Row], namespaces: &Namespaces) {
    let api_version = served.kind.api_version();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let namespace = served.kind.is_namespaced.then(|| {
            let name = row.organization.and_then(|id| namespaces.get(&id));
            name.map_or("", String::as_str)
        });
        let shown = Shown { row, api_version: &api_version, namespace };
        // Text is written to memory, and all names are texts.
        text.extend(serde_json::to_vec(&shown).unwrap_or_default());
    }
}

/// An object as `Served::shown` has it, without a copy of it.
struct Shown<'a> {
    row: &'a Row,
    api_version: &'a str,
    namespace: Option<&'a str>,
}

/// Its metadata.
struct Metadata<'a>(&'a Shown<'a>, &'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", self.api_version)?;
        for (name, value) in self.row.content.as_object().into_iter().flatten() {
            match name.as_str() {
                "apiVersion" => {}
                "metadata" => map.serialize_entry(name, &Metadata(self, value))?,
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(Shown { row, namespace, .. }, metadata) = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in metadata.as_object().into_iter().flatten() {
            let is_told = name == "resourceVersion" || namespace.is_some() && name == "namespace";
            if !is_told {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(namespace) = namespace {
            map.serialize_entry("namespace", namespace)?;
        }
        map.serialize_entry("resourceVersion", &row.revision.to_string())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use root_core::State;

    use super::{super::kinds, *};

    const OURS: OrganizationId = OrganizationId::from_bytes([7; 12]);

    fn row(content: Value) -> Row {
        Row {
            organization: Some(OURS),
            cluster: None,
            name: "one".to_owned(),
            content: Arc::new(content),
            revision: 9,
        }
    }

    fn named(name: &str, revision: u64) -> Row {
        Row { name: name.to_owned(), revision, ..row(json!({})) }
    }

    #[test]
    fn a_list_of_the_past_is_what_there_is_with_what_has_changed_undone() {
        let present = ["b", "c", "e", "g"].map(|name| Listed::Made(named(name, 9)));
        // `a` and `h` have gone, `c` and `g` were others, `e` is new, and `d` came and went.
        let were = [("a", Some(3)), ("c", Some(4)), ("d", None), ("e", None), ("g", Some(5)), ("h", Some(6))];
        let were = were.map(|(name, was)| ((Some(OURS), name.to_owned()), was.map(|it| named(name, it))));
        let undone = undone(present.into_iter(), Past::from(were));
        let undone: Vec<(String, u64)> =
            undone.map(Listed::into_row).map(|row| (row.name, row.revision)).collect();
        let expected = [("a", 3), ("b", 9), ("c", 4), ("g", 5), ("h", 6)];
        assert_eq!(undone, expected.map(|(name, revision)| (name.to_owned(), revision)));
    }

    #[test]
    fn an_object_is_written_as_it_is_shown() {
        let state = State::of(OURS);
        let namespaces = Namespaces::from([(OURS, "acme".to_owned())]);
        let rows = [
            row(
                json!({"kind": "It", "metadata": {"name": "one", "labels": {"a": "b\"c"}}, "spec": {"size": [1, null]}}),
            ),
            row(
                json!({"apiVersion": "other/v0", "metadata": {"namespace": "old", "resourceVersion": "1"}, "status": {}}),
            ),
        ];
        for (group, plural) in
            [("sirocco.cloud", "tasks"), ("apiextensions.k8s.io", "customresourcedefinitions")]
        {
            let served = kinds::preferred(&state, group, plural).expect("built in");
            let mut text = b"[".to_vec();
            write_rows(&mut text, &served, &rows, &namespaces);
            text.push(b']');
            let written: Vec<Value> = serde_json::from_slice(&text).expect("JSON");
            let shown: Vec<Value> = rows.iter().map(|row| served.shown(row, &namespaces)).collect();
            assert_eq!(written, shown, "{plural}");
        }
    }
}
