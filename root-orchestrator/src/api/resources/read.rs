//! Looking at one object, and at all that are selected.

use ::resources::{
    Status,
    kind::Verb,
    page::{self, Token},
    selector::Selector,
};
use axum::http::StatusCode;
use model::OrganizationId;
use serde_json::{Value, json};
use store::Revision;

use super::{
    super::Context,
    Answer, Failure,
    answer::answered,
    asked::Asked,
    kinds::{self, Served, Source, Whose},
    rows::{self, Namespaces, Row},
    views::View,
    watch,
};
use crate::{auth::Caller, documents};

/// Which kind a path is about, and in which namespace.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    pub(super) plural: String,
}

/// Shows one object.
pub(super) async fn one(context: Context, caller: Caller, place: Place, name: &str, asked: Asked) -> Answer {
    let state = context.brain.read().await;
    let served = kinds::find(&state, &place.group, &place.version, &place.plural)?;
    let whose = served.admit(&state, &caller, Verb::Get, place.namespace.as_deref(), name)?;
    let row = served.row(&state, &whose, name).filter(|row| served.shows(&caller, &whose, row));
    let row = row.ok_or_else(|| Status::not_found(served.kind.about(name)))?;
    let object = served.shown(&row, &rows::namespaces(&state));
    drop(state);
    Ok(answered(StatusCode::OK, &asked.form.one(&served.kind, object), &[]))
}

/// Lists objects, or watches them.
pub(super) async fn all(context: Context, caller: Caller, place: Place, asked: Asked) -> Answer {
    let verb = if asked.options.watch { Verb::Watch } else { Verb::List };
    let (served, whose, selector) = {
        let state = context.brain.read().await;
        let served = kinds::find(&state, &place.group, &place.version, &place.plural)?;
        let whose = served.admit(&state, &caller, verb, place.namespace.as_deref(), "")?;
        let options = &asked.options;
        let selector = Selector::read(&served.kind, &options.label_selector, &options.field_selector)?;
        (served, whose, selector)
    };
    if asked.options.watch {
        return watch::watch(context, caller, served, whose, selector, asked).await;
    }
    let List { objects, mut metadata } = list(&context, &caller, &served, &whose, &selector, &asked).await?;
    if metadata["continue"].is_null()
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.remove("continue");
    }
    Ok(answered(StatusCode::OK, &asked.form.list(&served.kind, objects, metadata), &[]))
}

/// Part of a list.
struct List {
    objects: Vec<Value>,
    metadata: Value,
}

async fn list(
    context: &Context,
    caller: &Caller,
    served: &Served,
    whose: &Whose,
    selector: &Selector,
    asked: &Asked,
) -> Result<List, Failure> {
    let options = &asked.options;
    let token = match options.continues.as_str() {
        "" => None,
        text => Some(Token::read(text)?),
    };
    let exact = token.as_ref().map(|token| token.revision).or(options.revision.filter(|_| options.is_exact));
    let (rows, namespaces, revision) = snapshot(context, served, exact, options.revision).await?;
    let after = token.as_ref().map(|token| read_cursor(&token.after)).transpose()?;
    let is_behind = |row: &&Row| match &after {
        Some((organization, name)) => row.cursor() > (*organization, name.as_str()),
        None => true,
    };
    let most = options.limit.unwrap_or(usize::MAX);
    let (mut objects, mut last, mut more) = (Vec::new(), String::new(), 0_usize);
    for row in rows.iter().filter(is_behind).filter(|row| served.shows(caller, whose, row)) {
        let object = served.shown(row, &namespaces);
        if !selector.admits(&object) {
            continue;
        }
        if objects.len() < most {
            last = write_cursor(row);
            objects.push(object);
        } else {
            more += 1;
        }
    }
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if more > 0 {
        metadata["continue"] = Value::from(Token { revision, after: last }.write());
        if selector.is_everything() {
            metadata["remainingItemCount"] = Value::from(more);
        }
    }
    Ok(List { objects, metadata })
}

/// All objects of a kind as of one revision: exactly that one, or the newest, which is at least `least`.
async fn snapshot(
    context: &Context,
    served: &Served,
    exact: Option<u64>,
    least: Option<u64>,
) -> Result<(Vec<Row>, Namespaces, u64), Failure> {
    let (namespaces, first) = {
        let state = context.brain.read().await;
        let newest = state.revision();
        if let Some(asked) = least.filter(|asked| *asked > newest) {
            return Err(page::too_large(asked, newest).into());
        }
        let namespaces = rows::namespaces(&state);
        if exact.is_none_or(|exact| exact == newest) {
            return Ok((served.rows(&state), namespaces, newest));
        }
        (namespaces, rows::first_organization(&state))
    };
    if served.source == Source::View(View::Events) {
        // Of what has happened there is no past.
        let state = context.brain.read().await;
        return Ok((served.rows(&state), namespaces, state.revision()));
    }
    let revision = exact.unwrap_or_default();
    let Some(collection) = served.collection() else {
        let state = documents::viewed_at(context.store.as_ref(), first, Revision(revision)).await?;
        return Ok((served.rows(&state), namespaces, revision));
    };
    let documents = context.store.list_at(collection, Revision(revision)).await?;
    let of_kind = documents.iter().filter(|it| served.is_of(&it.collection, &it.key));
    let mut rows: Vec<Row> = of_kind.filter_map(|it| served.read(&it.value, it.revision.0)).collect();
    rows.sort_by(|one, other| one.cursor().cmp(&other.cursor()));
    Ok((rows, namespaces, revision))
}

fn write_cursor(row: &Row) -> String {
    let organization = row.organization.map(|id| id.to_string()).unwrap_or_default();
    format!("{organization}/{}", row.name)
}

fn read_cursor(text: &str) -> Result<(Option<OrganizationId>, String), Status> {
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
