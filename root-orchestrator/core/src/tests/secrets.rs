//! The rules of secrets: whose they are, who uses them, and what a new version does.

use model::{ImagePullSecret, OrganizationId, Sealed, SecretId, SecretTarget, SecretUse, SecretVersionId};

use super::{neighbours::wanted, *};
use crate::{Envelope, NewSecret, Rotation, SecretKind, Service, sla::SecretWishes};

const OURS: OrganizationId = OrganizationId::from_bytes([1; 12]);
const THEIRS: OrganizationId = OrganizationId::from_bytes([2; 12]);

fn envelope(version: SecretVersionId) -> Envelope {
    let sealed = |what: &str| Sealed(format!("{what} {version}").into_bytes());
    Envelope { key: "key".to_owned(), data_key: sealed("key of"), value: sealed("value of") }
}

impl Root {
    fn secret(&mut self, organization: OrganizationId, name: &str, kind: SecretKind) -> SecretId {
        let id = SecretId::from_bytes(self.ids.next());
        let wanted = NewSecret { id, organization, name: name.to_owned(), kind };
        let made = self.state.create_secret(wanted, self.now.date, envelope);
        let (id, changes) = made.expect("a new name");
        self.apply(changes);
        id
    }

    fn rotate(&mut self, name: &str) -> Rotation {
        let rotated = self.state.rotate_secret(OURS, name, SecretKind::Opaque, self.now.date, envelope);
        let (answer, changes) = rotated.expect("it is there");
        self.apply(changes);
        self.reconcile();
        answer
    }

    /// A service of our organisation that is given these secrets, running.
    fn user_of(&mut self, secrets: &[&str]) -> ServiceId {
        let service = self.service(small());
        self.deploy(service);
        self.reconcile();
        self.use_secrets(service, secrets);
        service
    }

    fn use_secrets(&mut self, service: ServiceId, secrets: &[&str]) {
        let mut service_wanted = asking(secrets);
        self.state.find_secrets(OURS, [&mut service_wanted]).expect("they are there");
        let known = self.state.service(service).expect("there").clone();
        let (_, changes) = self.state.update(&known, service_wanted, self.now.date).expect("its name");
        self.apply(changes);
        self.reconcile();
    }

    fn document(&self, service: ServiceId) -> &Service {
        self.state.service(service).expect("there")
    }

    fn versions_used(&self, service: ServiceId) -> Vec<u32> {
        self.document(service).spec().secret_versions().map(|version| version.number).collect()
    }
}

fn target() -> SecretTarget {
    SecretTarget::Variable("A".to_owned())
}

fn asking(secrets: &[&str]) -> SlaService {
    let uses = secrets.iter().map(|name| ((*name).to_owned(), target())).collect();
    SlaService { secrets: SecretWishes { uses, image_pull: None }, ..wanted(small(), &[]) }
}

#[test]
fn a_service_gets_the_newest_versions_of_the_secrets_it_names() {
    let mut root = Root::new();
    let database = root.secret(OURS, "database", SecretKind::Opaque);
    let registry = root.secret(OURS, "registry", SecretKind::Registry);
    root.rotate("database");
    let mut service = asking(&["database"]);
    service.secrets.image_pull = Some("registry".to_owned());
    root.state.find_secrets(OURS, [&mut service]).expect("both are there");
    let version = |secret, number| SecretVersionId { secret, number };
    assert_eq!(
        service.spec.secrets,
        [SecretUse { name: "database".to_owned(), version: version(database, 2), target: target() }]
    );
    let pull = ImagePullSecret { name: "registry".to_owned(), version: version(registry, 1) };
    assert_eq!(service.spec.image_pull_secret, Some(pull));
    assert_eq!(service.secrets, SecretWishes::default());
}

#[test]
fn a_secret_of_another_organisation_or_kind_is_refused_by_name() {
    let mut root = Root::new();
    root.secret(THEIRS, "database", SecretKind::Opaque);
    root.secret(OURS, "registry", SecretKind::Registry);
    let refused = |service: &mut SlaService| root.state.find_secrets(OURS, [service]).expect_err("refused");
    assert_eq!(
        refused(&mut asking(&["database"])),
        Rejected::NoSuchSecret { service: "service".to_owned(), name: "database".to_owned() }
    );
    let other_kind = Rejected::OtherKind { name: "registry".to_owned(), is: "registry", wanted: "opaque" };
    assert_eq!(refused(&mut asking(&["registry"])), other_kind);
    let rotated = root.state.rotate_secret(OURS, "registry", SecretKind::Opaque, root.now.date, envelope);
    assert_eq!(rotated.map(drop), Err(other_kind));
    let names = |organization| -> Vec<&str> {
        root.state.secrets_of(organization).map(|secret| secret.name.as_str()).collect()
    };
    assert_eq!((names(OURS), names(THEIRS)), (vec!["registry"], vec!["database"]));
}

#[test]
fn a_new_version_rolls_the_services_that_use_it_and_no_others() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(4, 1000)]);
    root.secret(OURS, "database", SecretKind::Opaque);
    root.secret(OURS, "other", SecretKind::Opaque);
    let user = root.user_of(&["database"]);
    let bystander = root.user_of(&["other"]);
    let before = (root.document(user).revision, root.document(bystander).revision);
    assert_eq!(root.rotate("database"), Rotation { version: 2, users: vec![user] });
    assert_eq!((root.versions_used(user), root.versions_used(bystander)), (vec![2], vec![1]));
    assert_eq!((root.document(user).revision, root.document(bystander).revision), (before.0 + 1, before.1));
    assert!(root.document(user).rollout.is_some(), "its instances give way");
    let spec = root.document(user).spec().clone();
    let envelope_of = |number| {
        let version = spec.secret_versions().next().expect("one");
        root.state.envelope(SecretVersionId { number, ..version }).cloned()
    };
    assert!(envelope_of(1).is_some(), "what is taken back needs the value before");
    assert!(envelope_of(2).is_some() && envelope_of(3).is_none());
}

#[test]
fn versions_that_no_revision_names_are_forgotten() {
    let mut root = Root::new();
    let id = root.secret(OURS, "database", SecretKind::Opaque);
    root.rotate("database");
    root.rotate("database");
    let secret = root.state.secrets_of(OURS).next().expect("there");
    let kept: Vec<u32> = secret.versions.iter().map(|version| version.number).collect();
    assert_eq!((secret.id, kept), (id, vec![3]));
}

#[test]
fn one_that_is_used_is_not_deleted_and_says_by_whom() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(4, 1000)]);
    root.secret(OURS, "database", SecretKind::Opaque);
    let user = root.user_of(&["database"]);
    let users = root.document(user).names.to_string();
    let refused = root.state.delete_secret(OURS, "database").map(drop);
    assert_eq!(refused, Err(Rejected::SecretInUse { name: "database".to_owned(), users: users.clone() }));
    // An instance of the revision before needs it still.
    root.use_secrets(user, &[]);
    assert!(root.state.instances_of(user).any(|instance| instance.revision == 2));
    let refused = root.state.delete_secret(OURS, "database").map(drop);
    assert_eq!(refused, Err(Rejected::SecretInUse { name: "database".to_owned(), users }));

    let service = root.document(user).clone();
    let changes = root.state.delete_service(&service, root.now.date);
    root.apply(changes);
    let (_, changes) = root.state.delete_secret(OURS, "database").expect("nobody uses it");
    root.apply(changes);
    assert_eq!(root.state.secrets_of(OURS).count(), 0);
    assert_eq!(
        root.state.delete_secret(OURS, "database").map(drop),
        Err(Rejected::NoSecret("database".to_owned()))
    );
}

#[test]
fn a_revision_whose_secret_is_gone_does_not_come_back() {
    let mut root = Root::new();
    root.secret(OURS, "database", SecretKind::Opaque);
    let service = root.service(small());
    root.use_secrets(service, &["database"]);
    root.use_secrets(service, &[]);
    let (_, changes) = root.state.delete_secret(OURS, "database").expect("only the past names it");
    root.apply(changes);
    let refused = root.state.roll_back(root.document(service), Some(2)).map(drop);
    assert_eq!(refused, Err(Rejected::SecretGone("database".to_owned())));
}

#[test]
fn a_name_is_taken_once_in_an_organisation() {
    let mut root = Root::new();
    root.secret(OURS, "database", SecretKind::Opaque);
    root.secret(THEIRS, "database", SecretKind::Opaque);
    let id = SecretId::from_bytes([9; 12]);
    let again = NewSecret { id, organization: OURS, name: "database".to_owned(), kind: SecretKind::Opaque };
    let refused = root.state.create_secret(again, root.now.date, envelope).map(drop);
    assert_eq!(refused, Err(Rejected::SecretExists("database".to_owned())));
}
