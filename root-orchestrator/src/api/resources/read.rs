//! Looking at one object, and at all that are selected.

use ::resources::{Status, kind::Verb, selector::Selector};
use axum::http::StatusCode;

use super::{
    super::Context,
    Answer,
    answer::answered,
    asked::Asked,
    kinds,
    list::{self, Wanted},
    rows, watch,
};
use crate::auth::Caller;

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
    let row = served.row(&state, &whose, name).filter(|row| served.shows(&caller, &whose, row.owner()));
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
    list::list(&context, &Wanted { caller, served, whose, selector }, &asked).await
}
