//! The resource API by the `kube` crate, which Rust programs speak to Kubernetes with: its discovery, its watcher, its
//! reflector, its finalizers and its errors, against a real root, mostly over TLS. Those that were away are in `kube_resume.rs`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::ready};
use k8s_openapi::api::autoscaling::v1::ScaleSpec;
use kube::{
    Api, Client, Config, Error, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{Discovery, Scope, pinned_kind},
    runtime::{
        WatchStreamExt,
        controller::Action,
        finalizer::{Event, finalizer},
        reflector,
        reflector::store::{Store, Writer},
        watcher,
    },
};
use serde_json::{Value, json};
use testkit::{Root, hello_sla, wait_until};
use tokio::task::JoinHandle;

use super::resources::{definition, widget};

const FINALIZER: &str = "example.com/hold";
/// A watch that tells nothing for so long has nothing to tell.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client with a kubeconfig like that of `mangrove kubeconfig`.
pub(super) async fn client(root: &Root) -> Client {
    let mut cluster = json!({"server": root.api.base()});
    if let Some(certificate) = root.api_certificate() {
        cluster["certificate-authority"] = json!(certificate);
    }
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "root",
        "clusters": [{"name": "root", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": root.api.bearer()}}],
        "contexts": [{"name": "root", "context": {"cluster": "root", "user": "admin", "namespace": "root"}}],
    }))
    .expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// A kind as discovery describes it.
pub(super) async fn kind(client: &Client, group: &str, version: &str, kind: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(group, version, kind);
    pinned_kind(client, &kind).await.expect("it is discovered").0
}

pub(super) async fn objects(client: &Client, group: &str, version: &str, of: &str) -> Api<DynamicObject> {
    let kind = kind(client, group, version, of).await;
    Api::namespaced_with(client.clone(), "root", &kind)
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

/// Makes the widget `one`, and what it is to be one.
pub(super) async fn make_a_widget(client: &Client) -> DynamicObject {
    let definitions = kind(client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition").await;
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &definitions);
    definitions.create(&PostParams::default(), &object(definition())).await.expect("it is defined");
    let wanted = Patch::Apply(widget("one", 1));
    let widgets = objects(client, "example.com", "v1", "Widget").await;
    widgets.patch("one", &PatchParams::apply("test"), &wanted).await.expect("made")
}

/// A store that follows the widgets, until the task ends.
async fn reflect(client: &Client, how: watcher::Config) -> (Store<DynamicObject>, JoinHandle<()>) {
    let kind = kind(client, "example.com", "v1", "Widget").await;
    let writer = Writer::new(kind.clone());
    let store = writer.as_reader();
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), "root", &kind);
    let reflecting = reflector(writer, watcher(widgets, how)).for_each(|event| {
        event.expect("the watch goes on");
        ready(())
    });
    (store, tokio::spawn(reflecting))
}

/// Waits until the store has widgets of these sizes, and no others.
async fn has_sizes(store: &Store<DynamicObject>, wanted: &[u64]) {
    wait_until("the store to catch up", async || {
        let sizes: Vec<Value> = store.state().iter().map(|it| it.data["spec"]["size"].clone()).collect();
        if sizes == wanted { Ok(()) } else { Err(format!("{sizes:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_reflector_follows_what_is_made_changed_and_deleted() {
    let root = Root::start_over_tls().await;
    let client = client(&root).await;
    make_a_widget(&client).await;
    let widgets = objects(&client, "example.com", "v1", "Widget").await;
    // It lists and watches, or has the watch begin with what there is.
    for how in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (store, reflecting) = reflect(&client, how).await;
        has_sizes(&store, &[1]).await;
        let patch = Patch::Merge(json!({"spec": {"size": 2}}));
        widgets.patch("one", &PatchParams::default(), &patch).await.expect("changed");
        has_sizes(&store, &[2]).await;
        widgets.delete("one", &DeleteParams::default()).await.expect("deleted");
        has_sizes(&store, &[]).await;
        widgets.create(&PostParams::default(), &object(widget("one", 1))).await.expect("made");
        has_sizes(&store, &[1]).await;
        assert!(!reflecting.is_finished(), "it goes on");
        reflecting.abort();
    }
}

#[tokio::test]
async fn a_finalizer_holds_what_is_deleted_until_it_has_cleaned_up() {
    let root = Root::start_over_tls().await;
    let client = client(&root).await;
    let made = make_a_widget(&client).await;
    let widgets = objects(&client, "example.com", "v1", "Widget").await;
    let (store, reflecting) = reflect(&client, watcher::Config::default()).await;
    has_sizes(&store, &[1]).await;
    let reconcile = async |object: DynamicObject| {
        let mut told = "nothing";
        let acted = finalizer(&widgets, FINALIZER, Arc::new(object), |event| {
            told = match event {
                Event::Apply(_) => "apply",
                Event::Cleanup(_) => "clean up",
            };
            ready(Ok::<_, Infallible>(Action::await_change()))
        });
        acted.await.expect("it is reconciled");
        told
    };
    assert_eq!(reconcile(made).await, "nothing", "first it is held");
    let held = widgets.get("one").await.expect("there");
    assert_eq!(held.finalizers(), [FINALIZER]);
    assert_eq!(reconcile(held).await, "apply");

    widgets.delete("one", &DeleteParams::default()).await.expect("it is to go");
    let going = widgets.get("one").await.expect("it waits");
    assert!(going.metadata.deletion_timestamp.is_some());
    let seen = wait_until("the store to see that it goes", async || {
        let goes = |seen: &Arc<DynamicObject>| seen.metadata.deletion_timestamp.is_some();
        store.state().into_iter().find(goes).ok_or_else(|| format!("{:?}", store.state()))
    })
    .await;
    assert_eq!(*seen, going);
    assert_eq!(reconcile(going).await, "clean up");
    assert_eq!(widgets.get_opt("one").await.expect("an answer"), None, "it went with its finalizer");
    has_sizes(&store, &[]).await;
    reflecting.abort();
}

#[tokio::test]
async fn a_watcher_of_services_sees_them_scaled() {
    let root = Root::start_over_tls().await;
    root.api.create(&hello_sla("shop")).await;
    let services = objects(&client(&root).await, "mangrove.io", "v1", "Service").await;
    let name = "shop.test.hello.test";
    let how = watcher::Config::default().streaming_lists();
    let mut seen = std::pin::pin!(watcher(services.clone(), how).applied_objects());
    let first = seen.next().await.expect("it goes on").expect("a service");
    assert_eq!((first.name_any().as_str(), &first.data["status"]["instances"]), (name, &json!(0)));
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let scaled = services.patch_scale(name, &PatchParams::default(), &scale).await.expect("scaled");
    assert_eq!(scaled.spec.and_then(|spec| spec.replicas), Some(2));
    assert_eq!(services.get_scale(name).await.expect("its scale").spec, scaled_to(2));
    let has_two = async {
        while let Some(service) = seen.next().await {
            if service.expect("a service").data["status"]["instances"] == 2 {
                return;
            }
        }
        panic!("the watch has ended");
    };
    tokio::time::timeout(PATIENCE, has_two).await.expect("it is told in time");
}

fn scaled_to(replicas: i32) -> Option<ScaleSpec> {
    Some(ScaleSpec { replicas: Some(replicas) })
}

/// What was refused: the code, the reason and the fields.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> (u16, String, Vec<String>) {
    match answer {
        Err(Error::Api(status)) => {
            let causes = status.details.into_iter().flat_map(|details| details.causes);
            (status.code, status.reason, causes.map(|cause| cause.field).collect())
        }
        other => panic!("it is not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_client_understands_what_is_discovered_and_what_is_refused() {
    let root = Root::start().await;
    let client = client(&root).await;
    let made = make_a_widget(&client).await;
    let discovered = Discovery::new(client.clone()).run().await.expect("discovery");
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.expect("aggregated discovery");
    for discovered in [discovered, aggregated] {
        let groups: Vec<&str> = discovered.groups_alphabetical().iter().map(|group| group.name()).collect();
        assert_eq!(groups, ["", "apiextensions.k8s.io", "example.com", "mangrove.io", "sirocco.cloud"]);
        let (resource, can) = discovered.resolve_object(&made).expect("it knows widgets");
        assert_eq!((resource.plural.as_str(), can.scope), ("widgets", Scope::Namespaced));
    }

    let widgets = objects(&client, "example.com", "v1", "Widget").await;
    let again = widgets.create(&PostParams::default(), &object(widget("one", 1))).await;
    assert_eq!(refused(again), (409, "AlreadyExists".to_owned(), vec![]));
    let small = widgets.create(&PostParams::default(), &object(widget("two", 0))).await;
    assert_eq!(refused(small), (422, "Invalid".to_owned(), vec!["spec.size".to_owned()]));
    let patch = Patch::Merge(json!({"spec": {"size": 2}}));
    widgets.patch("one", &PatchParams::default(), &patch).await.expect("changed");
    let late = widgets.replace("one", &PostParams::default(), &made).await;
    assert_eq!(refused(late), (409, "Conflict".to_owned(), vec![]));
    assert_eq!(refused(widgets.get("three").await), (404, "NotFound".to_owned(), vec![]));

    let runs = objects(&client, "sirocco.cloud", "v1alpha1", "Run").await;
    let run = json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": "Run", "spec": {"ignitor": "nightly"}});
    let named = runs.patch("mine", &PatchParams::apply("test"), &Patch::Apply(run)).await;
    assert_eq!(refused(named), (422, "Invalid".to_owned(), vec!["metadata.name".to_owned()]));
    assert_eq!(runs.get_opt("mine").await.expect("an answer"), None);
}
