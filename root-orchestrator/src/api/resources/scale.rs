//! How many instances a service has and shall have, at `/scale`: what `kubectl scale` reads and writes.

use ::resources::{Reason, Status, kind::Verb, scale};
use axum::http::StatusCode;
use model::{Now, OrganizationId};
use root_core::{State as Truth, sla::MAX_INSTANCES};
use serde_json::Value;

use super::{
    super::Context,
    Answer,
    answer::answered,
    asked::Asked,
    kinds::{self, Served},
    read::Place,
    rows::{self, Namespaces},
    viewed::Refused,
    views::View,
    write::{Wish, Writer},
};
use crate::auth::Caller;

/// Refuses kinds that have no scale.
pub(super) fn ensure_scale(served: &Served) -> Result<(), Status> {
    if served.kind.has_scale {
        return Ok(());
    }
    Err(Status::new(Reason::NotFound, format!("{} have no scale", served.kind.names.plural)))
}

/// The scale of a service.
fn shown(
    state: &Truth,
    served: &Served,
    of: Option<OrganizationId>,
    name: &str,
    namespaces: &Namespaces,
) -> Result<Value, Status> {
    let found = View::Services.named(state, of, name);
    let found = found.and_then(|(id, row)| Some((state.service(id.parse().ok()?)?, row)));
    let (service, row) = found.ok_or_else(|| Status::not_found(served.kind.about(name)))?;
    let there = u32::try_from(state.instances_of(service.id).count()).unwrap_or(u32::MAX);
    Ok(scale::scale(&served.shown(&row, namespaces), state.wanted_instances(service), there))
}

/// Shows the scale of a service.
pub(super) async fn get(context: Context, caller: Caller, place: Place, name: &str, asked: Asked) -> Answer {
    let state = context.brain.read().await;
    let served = kinds::find(&state, &place.group, &place.version, &place.plural)?;
    let whose = served.admit(&state, &caller, Verb::Get, place.namespace.as_deref(), name)?;
    ensure_scale(&served)?;
    let of = whose.namespace().map(|(id, _)| id);
    let object = shown(&state, &served, of, name, &rows::namespaces(&state))?;
    let kind = scale::kind(served.kind.is_namespaced, MAX_INSTANCES);
    Ok(answered(StatusCode::OK, &asked.form.one(&kind, object), &[]))
}

/// Gives a service another scale.
pub(super) async fn write(mut writer: Writer, wish: Wish) -> Answer {
    let kind = scale::kind(writer.kind().is_namespaced, MAX_INSTANCES);
    let (of, name, served) = (writer.organization(), writer.name.clone(), writer.served.clone());
    let seen = async |writer: &Writer| {
        let state = writer.context.brain.read().await;
        shown(&state, &served, of, &name, &rows::namespaces(&state))
    };
    let before = seen(&writer).await?;
    writer.served.kind = kind.clone();
    let written = writer.work_out(wish, Some(before)).await?;
    if writer.asked.options.dry_run || !written.is_changed {
        return Ok(answered(
            StatusCode::OK,
            &writer.asked.form.one(&kind, written.object),
            &written.warnings,
        ));
    }
    let wanted = scale::wanted(&written.object);
    let (about, named) = (served.kind.clone(), name.clone());
    let scale = move |state: &Truth, now: Now| {
        let found = View::Services.named(state, of, &named);
        let service = found.and_then(|(id, _)| state.service(id.parse().ok()?));
        let service = service.ok_or_else(|| Refused::For(Status::not_found(about.about(&named))))?;
        let scaled = state.scale(service, wanted, now.date);
        scaled.map(|(_, changes)| ((), changes)).map_err(|rejected| Refused::of(&about, &named, rejected))
    };
    match writer.context.brain.ask(scale).await? {
        Ok(()) => {}
        Err(Refused::For(status)) => return Err(status.into()),
        Err(Refused::Changed | Refused::Exists) => {
            return Err(Status::modified(served.kind.about(&name)).into());
        }
    }
    let object = seen(&writer).await?;
    Ok(answered(StatusCode::OK, &writer.asked.form.one(&kind, object), &written.warnings))
}
