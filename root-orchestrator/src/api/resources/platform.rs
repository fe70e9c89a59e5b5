//! The routes of objects that are of no namespace, and of those of all of them.

use ::resources::write::Part;

use super::{
    super::{Path, body::Body},
    Answer, Asking, Shared, State,
    answer::Answers,
    asked::{self, Asked, Selection},
    paths::{Named, OfPlatform},
    read, write,
};

/// List objects of all organisations, or of a kind that has no namespaces, or watch them
///
/// With `watch=true` the answer is a line for each change, and does not end.
#[utoipa::path(
    get,
    path = "/apis/{group}/{version}/{plural}",
    tag = "resources",
    params(Selection, OfPlatform),
    responses(Answers)
)]
pub(in crate::api) async fn list(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    asked: Asked,
) -> Answer {
    read::all(context, caller?, place.into(), asked).await
}

/// Make an object
#[utoipa::path(post, path = "/apis/{group}/{version}/{plural}", tag = "resources",
    params(OfPlatform),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn create(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::create(context, caller?, place.into(), asked, asked::body(body)?).await
}

/// Delete all objects that are selected
#[utoipa::path(delete, path = "/apis/{group}/{version}/{plural}", tag = "resources",
    params(OfPlatform),
    request_body(content = Object, description = "`DeleteOptions`; may be absent"), responses(Answers))]
pub(in crate::api) async fn delete_all(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::delete_all(context, caller?, place.into(), asked, asked::body(body)?).await
}

/// Show an object
#[utoipa::path(
    get,
    path = "/apis/{group}/{version}/{plural}/{name}",
    tag = "resources",
    params(OfPlatform, Named),
    responses(Answers)
)]
pub(in crate::api) async fn get(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
) -> Answer {
    read::one(context, caller?, place.into(), &object.name, asked).await
}

/// Replace an object
#[utoipa::path(put, path = "/apis/{group}/{version}/{plural}/{name}", tag = "resources",
    params(OfPlatform, Named),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn replace(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::replace(context, caller?, place.into(), &object.name, Part::Main, asked, asked::body(body)?).await
}

/// Change an object
#[utoipa::path(patch, path = "/apis/{group}/{version}/{plural}/{name}", tag = "resources",
    params(OfPlatform, Named),
    request_body(content = Object, content_type = "application/merge-patch+json", description = "A patch of this type, or of `application/json-patch+json`, `application/strategic-merge-patch+json` or `application/apply-patch+yaml`"), responses(Answers))]
pub(in crate::api) async fn patch(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::patch(context, caller?, place.into(), &object.name, Part::Main, asked, asked::body(body)?).await
}

/// Show the status of an object, with the object
#[utoipa::path(
    get,
    path = "/apis/{group}/{version}/{plural}/{name}/status",
    tag = "resources",
    params(OfPlatform, Named),
    responses(Answers)
)]
pub(in crate::api) async fn get_status(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
) -> Answer {
    read::one(context, caller?, place.into(), &object.name, asked).await
}

/// Replace the status of an object
#[utoipa::path(put, path = "/apis/{group}/{version}/{plural}/{name}/status", tag = "resources",
    params(OfPlatform, Named),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn replace_status(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::replace(context, caller?, place.into(), &object.name, Part::Status, asked, asked::body(body)?)
        .await
}

/// Change the status of an object
#[utoipa::path(patch, path = "/apis/{group}/{version}/{plural}/{name}/status", tag = "resources",
    params(OfPlatform, Named),
    request_body(content = Object, content_type = "application/merge-patch+json", description = "A patch of this type, or of `application/json-patch+json`, `application/strategic-merge-patch+json` or `application/apply-patch+yaml`"), responses(Answers))]
pub(in crate::api) async fn patch_status(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::patch(context, caller?, place.into(), &object.name, Part::Status, asked, asked::body(body)?).await
}

/// Delete an object
#[utoipa::path(delete, path = "/apis/{group}/{version}/{plural}/{name}", tag = "resources",
    params(OfPlatform, Named),
    request_body(content = Object, description = "`DeleteOptions`; may be absent"), responses(Answers))]
pub(in crate::api) async fn delete(
    State(context): Shared,
    caller: Asking,
    Path(place): Path<OfPlatform>,
    Path(object): Path<Named>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::delete(context, caller?, place.into(), &object.name, asked, asked::body(body)?).await
}
