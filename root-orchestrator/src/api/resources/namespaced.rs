//! The routes of objects of one organisation.

use ::resources::{kind::Verb, write::Part};

use super::{
    super::{Path, body::Body},
    Answer, Asking, Shared, State,
    answer::Answers,
    asked::{self, Asked},
    read::{self, Place},
    scale, write,
};

/// List objects of an organisation, or watch them
///
/// With `watch=true` the answer is a line for each change, and does not end.
#[utoipa::path(get, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}", tag = "resources",
    params(
        ("labelSelector" = Option<String>, Query, description = "Which labels, such as `app=shop`"),
        ("fieldSelector" = Option<String>, Query, description = "Which fields, such as `metadata.name=one`"),
        ("limit" = Option<u32>, Query, description = "How many at once"),
        ("continue" = Option<String>, Query, description = "Where the list before ended"),
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
    ), responses(Answers))]
pub(in crate::api) async fn list(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural)): Path<(String, String, String, String)>,
    asked: Asked,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    read::all(context, caller?, place, asked).await
}

/// Make an object
#[utoipa::path(post, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
    ),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn create(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural)): Path<(String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::create(context, caller?, place, asked, asked::body(body)?).await
}

/// Delete all objects that are selected
#[utoipa::path(delete, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
    ),
    request_body(content = Object, description = "`DeleteOptions`; may be absent"), responses(Answers))]
pub(in crate::api) async fn delete_all(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural)): Path<(String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::delete_all(context, caller?, place, asked, asked::body(body)?).await
}

/// Show an object
#[utoipa::path(get, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ), responses(Answers))]
pub(in crate::api) async fn get(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    read::one(context, caller?, place, &name, asked).await
}

/// Replace an object
#[utoipa::path(put, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn replace(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::replace(context, caller?, place, &name, Part::Main, asked, asked::body(body)?).await
}

/// Change an object
#[utoipa::path(patch, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, content_type = "application/merge-patch+json", description = "A patch of this type, or of `application/json-patch+json`, `application/strategic-merge-patch+json` or `application/apply-patch+yaml`"), responses(Answers))]
pub(in crate::api) async fn patch(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::patch(context, caller?, place, &name, Part::Main, asked, asked::body(body)?).await
}

/// Show the status of an object, with the object
#[utoipa::path(get, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ), responses(Answers))]
pub(in crate::api) async fn get_status(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    read::one(context, caller?, place, &name, asked).await
}

/// Replace the status of an object
#[utoipa::path(put, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, description = "The object"), responses(Answers))]
pub(in crate::api) async fn replace_status(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::replace(context, caller?, place, &name, Part::Status, asked, asked::body(body)?).await
}

/// Change the status of an object
#[utoipa::path(patch, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, content_type = "application/merge-patch+json", description = "A patch of this type, or of `application/json-patch+json`, `application/strategic-merge-patch+json` or `application/apply-patch+yaml`"), responses(Answers))]
pub(in crate::api) async fn patch_status(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::patch(context, caller?, place, &name, Part::Status, asked, asked::body(body)?).await
}

/// Show how many there are of what an object stands for
#[utoipa::path(get, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/scale", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ), responses(Answers))]
pub(in crate::api) async fn get_scale(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    scale::get(context, caller?, place, &name, asked).await
}

/// Set how many there shall be of what an object stands for
#[utoipa::path(put, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/scale", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, description = "A `Scale` of `autoscaling/v1`"), responses(Answers))]
pub(in crate::api) async fn replace_scale(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::rescale(context, caller?, place, &name, Verb::Update, asked, asked::body(body)?).await
}

/// Change how many there shall be of what an object stands for
#[utoipa::path(patch, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/scale", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, content_type = "application/merge-patch+json", description = "A patch of this type, or of `application/json-patch+json`, `application/strategic-merge-patch+json` or `application/apply-patch+yaml`"), responses(Answers))]
pub(in crate::api) async fn patch_scale(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::rescale(context, caller?, place, &name, Verb::Patch, asked, asked::body(body)?).await
}

/// Delete an object
#[utoipa::path(delete, path = "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", tag = "resources",
    params(
        ("group" = String, Path, description = "Such as `example.com`"),
        ("version" = String, Path, description = "Such as `v1`"),
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("plural" = String, Path, description = "Such as `widgets`"),
        ("name" = String, Path, description = "Name of the object"),
    ),
    request_body(content = Object, description = "`DeleteOptions`; may be absent"), responses(Answers))]
pub(in crate::api) async fn delete(
    State(context): Shared,
    caller: Asking,
    Path((group, version, namespace, plural, name)): Path<(String, String, String, String, String)>,
    asked: Asked,
    body: Body,
) -> Answer {
    let place = Place { group, version, namespace: Some(namespace), plural };
    write::delete(context, caller?, place, &name, asked, asked::body(body)?).await
}
