//! What a cluster's authority is good for, and what it is not: real TLS over loopback.

#[cfg(test)]
mod support;

#[cfg(test)]
mod intermediates {
    use daemon::StateDirectory;
    use link::{AuthorityError, Dial, Identity, IdentityError, Intermediate, KeyPair, Subject};
    use model::{ClusterId, Span, Timestamp, WorkerId};
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
        ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    };
    use tempfile::TempDir;
    use uuid::Uuid;

    use crate::support::{Doorman, Root, call, reason, serve};

    const YEAR: u64 = 365 * 86_400_000;
    const MONTH: Span = Span::from_secs(30 * 86_400);

    /// A cluster with its state directory and the intermediate it was lent.
    struct Cluster {
        directory: TempDir,
        identity: Identity,
        intermediate: Intermediate,
        certificate_pem: String,
    }

    impl Cluster {
        fn new(root: &Root, subject: Subject) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let identity = root.identity(subject);
            let state = StateDirectory::open(directory.path()).expect("usable");
            let request = Intermediate::request(&state).expect("a request");
            let certificate_pem =
                root.authority.certify_intermediate(&request, subject, daemon::now()).expect("signed");
            let intermediate = Intermediate::install(&state, &identity, &certificate_pem).expect("fits");
            drop(state);
            Self { directory, identity, intermediate, certificate_pem }
        }

        fn key_pem(&self) -> String {
            std::fs::read_to_string(self.directory.path().join("intermediate.key")).expect("there")
        }

        /// A certificate as somebody signs it who has the cluster's key and no scruples.
        fn forge(&self, root: &Root, subject: Subject) -> Identity {
            forge(&self.key_pem(), &self.certificate_pem, root, subject)
        }
    }

    fn fresh_key() -> (TempDir, KeyPair) {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        (directory, key)
    }

    fn forge(signer_key: &str, signer_chain: &str, root: &Root, subject: Subject) -> Identity {
        let (_directory, key) = fresh_key();
        let leaf =
            forge_pem(signer_key, signer_chain, &key.certificate_request().expect("a request"), |params| {
                params.subject_alt_names = vec![SanType::URI(subject.to_string().try_into().expect("ASCII"))];
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            });
        Identity::new(&key, &format!("{leaf}{signer_chain}"), root.authority.certificate_pem())
            .expect("parses")
    }

    fn forge_pem(
        signer_key: &str,
        signer_chain: &str,
        request: &str,
        say: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let key = rcgen::KeyPair::from_pem(signer_key).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(signer_chain, key).expect("a certificate");
        let mut request = CertificateSigningRequestParams::from_pem(request).expect("a request");
        request.params = CertificateParams::default();
        request.params.distinguished_name.push(DnType::CommonName, "forged");
        say(&mut request.params);
        request.signed_by(&issuer).expect("signed").pem()
    }

    fn other_cluster(root: &Root) -> Subject {
        Subject::Cluster { root: root.id, cluster: ClusterId::new(Uuid::from_u128(77)) }
    }

    fn network(root: &Root) -> Subject {
        let Subject::Worker { root, cluster, worker } = root.worker() else { unreachable!("a worker") };
        Subject::Network { root, cluster, worker }
    }

    async fn is_let_in(root: &Root, parent: Identity, child: &Identity) -> bool {
        let expected = parent.subject();
        let doorman = Doorman { needs_certificate: true, ..Doorman::default() };
        let (address, _stop) = serve(parent, doorman.clone()).await;
        let outcome = call(&address, Dial::As(child, expected)).await;
        let seen: Vec<Subject> =
            doorman.seen.lock().expect("not poisoned").iter().flatten().copied().collect();
        let let_in = matches!(outcome, Ok(Ok(())));
        let expected_to_be_seen = if let_in { vec![child.subject()] } else { vec![] };
        assert_eq!(seen, expected_to_be_seen, "by {expected} of {}", root.id);
        let_in
    }

    #[tokio::test]
    async fn workers_of_the_cluster_and_their_net_managers_are_let_in_by_it() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        for subject in [root.worker(), network(&root)] {
            let (_directory, key) = fresh_key();
            let request = key.certificate_request().expect("a request");
            let chain =
                cluster.intermediate.certify(&request, subject, MONTH, daemon::now()).expect("signed");
            let child = Identity::new(&key, &chain, root.authority.certificate_pem()).expect("fits");
            assert_eq!(child.subject(), subject);
            assert!(is_let_in(&root, cluster.identity.clone(), &child).await, "{subject}");
        }
    }

    #[tokio::test]
    async fn an_identity_of_a_chain_is_the_same_after_a_restart() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let chain =
            cluster.intermediate.certify(&request, root.worker(), MONTH, daemon::now()).expect("signed");
        Identity::save(&state, &chain, root.authority.certificate_pem()).expect("kept");
        let child = Identity::load(&state).expect("readable").expect("there");
        assert_eq!(child.authority_pem(), cluster.identity.authority_pem());
        assert!(is_let_in(&root, cluster.identity.clone(), &child).await);
    }

    #[tokio::test]
    async fn a_clusters_key_makes_nobody_but_workers_of_that_cluster() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        // The way it is forged is not what is refused.
        let own = cluster.forge(&root, root.worker());
        assert!(is_let_in(&root, cluster.identity.clone(), &own).await);

        let Subject::Cluster { cluster: other, .. } = other_cluster(&root) else { unreachable!("a cluster") };
        let worker = WorkerId::new(Uuid::from_u128(2));
        let Subject::Cluster { cluster: this, .. } = root.cluster() else { unreachable!("a cluster") };
        let foreign = Uuid::from_u128(9);
        for subject in [
            root.root(),
            root.cluster(),
            other_cluster(&root),
            Subject::Worker { root: root.id, cluster: other, worker },
            Subject::Network { root: root.id, cluster: other, worker },
            Subject::Worker { root: foreign, cluster: this, worker },
        ] {
            let forged = cluster.forge(&root, subject);
            // Whoever would let it in if it were good.
            let parent = match subject {
                Subject::Root { .. } | Subject::Cluster { .. } => root.root(),
                Subject::Worker { cluster, .. } | Subject::Network { cluster, .. } => {
                    Subject::Cluster { root: root.id, cluster }
                }
            };
            assert!(!is_let_in(&root, root.identity(parent), &forged).await, "{subject}");
        }
    }

    #[tokio::test]
    async fn another_clusters_certificate_shown_as_well_lends_nothing() {
        let root = Root::new();
        let (cluster, other) =
            (Cluster::new(&root, root.cluster()), Cluster::new(&root, other_cluster(&root)));
        // Signed with the other cluster's key for a worker of this one, which all three certificates are shown for.
        let (_directory, key) = fresh_key();
        let request = key.certificate_request().expect("a request");
        let leaf = forge_pem(&other.key_pem(), &other.certificate_pem, &request, |params| {
            let uri = root.worker().to_string().try_into().expect("ASCII");
            params.subject_alt_names = vec![SanType::URI(uri)];
        });
        let (this, that) = (&cluster.certificate_pem, &other.certificate_pem);
        for chain in [format!("{leaf}{this}{that}"), format!("{leaf}{that}{this}")] {
            let forged = Identity::new(&key, &chain, root.authority.certificate_pem()).expect("parses");
            assert!(!is_let_in(&root, cluster.identity.clone(), &forged).await);
        }
    }

    #[tokio::test]
    async fn a_clusters_key_makes_no_parent() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let child = root.identity(other_cluster(&root));
        for subject in [root.root(), root.cluster()] {
            let (address, _stop) = serve(cluster.forge(&root, subject), Doorman::default()).await;
            let said = reason(call(&address, Dial::As(&child, subject)).await);
            assert!(said.contains("may not vouch for"), "{said}");
            let said = reason(call(&address, Dial::Joining(&root.token())).await);
            assert!(said.contains("may not vouch for"), "{said}");
        }
    }

    #[tokio::test]
    async fn an_authority_is_nobodys_identity() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        // The intermediate and its own key, shown as if they were the cluster's identity.
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("identity.key"), cluster.key_pem()).expect("writable");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("the key");
        let posing =
            Identity::new(&key, &cluster.certificate_pem, root.authority.certificate_pem()).expect("parses");
        assert_eq!(posing.subject(), root.cluster());
        assert!(!is_let_in(&root, root.identity(root.root()), &posing).await);
        assert!(!is_let_in(&root, posing, &root.identity(root.worker())).await);
    }

    #[tokio::test]
    async fn neither_an_intermediate_nor_a_worker_makes_further_authorities() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let below = rcgen::KeyPair::generate().expect("a key");
        let request = CertificateParams::default()
            .serialize_request(&below)
            .and_then(|request| request.pem())
            .expect("a request");
        let intermediate = forge_pem(&cluster.key_pem(), &cluster.certificate_pem, &request, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.subject_alt_names =
                vec![SanType::URI(root.cluster().to_string().try_into().expect("ASCII"))];
        });
        let chain = format!("{intermediate}{}", cluster.certificate_pem);
        let forged = forge(&below.serialize_pem(), &chain, &root, root.worker());
        assert!(!is_let_in(&root, cluster.identity.clone(), &forged).await);

        // A cluster's own certificate is no authority, whoever is told so.
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let leaf = root.authority.certify(&request, root.cluster(), daemon::now()).expect("signed");
        let key_pem = std::fs::read_to_string(directory.path().join("identity.key")).expect("there");
        let forged = forge(&key_pem, &leaf, &root, root.worker());
        assert!(!is_let_in(&root, cluster.identity.clone(), &forged).await);
    }

    #[tokio::test]
    async fn what_an_expired_intermediate_signed_opens_nothing() {
        let root = Root::new();
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let identity = root.identity(root.cluster());
        let request = Intermediate::request(&state).expect("a request");
        let before = Timestamp(daemon::now().0 - YEAR - 1000);
        let pem = root.authority.certify_intermediate(&request, root.cluster(), before).expect("signed");
        let intermediate = Intermediate::install(&state, &identity, &pem).expect("fits");
        let (_directory, key) = fresh_key();
        let request = key.certificate_request().expect("a request");
        let refused = intermediate.certify(&request, root.worker(), MONTH, daemon::now());
        assert!(matches!(refused, Err(AuthorityError::Damaged { .. })), "{refused:?}");

        let chain = intermediate
            .certify(&request, root.worker(), MONTH, Timestamp(daemon::now().0 - YEAR / 2))
            .expect("signed in time");
        let child = Identity::new(&key, &chain, root.authority.certificate_pem()).expect("fits");
        assert!(!is_let_in(&root, identity, &child).await);
    }

    #[test]
    fn it_signs_for_its_own_workers_only() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let (_directory, key) = fresh_key();
        let request = key.certificate_request().expect("a request");
        let Subject::Cluster { cluster: other, .. } = other_cluster(&root) else { unreachable!("a cluster") };
        let stranger = Subject::Worker { root: root.id, cluster: other, worker: WorkerId::new(root.id) };
        for subject in [root.root(), root.cluster(), other_cluster(&root), stranger] {
            let refused = cluster.intermediate.certify(&request, subject, MONTH, daemon::now());
            assert!(matches!(refused, Err(AuthorityError::NotEntitled { .. })), "{refused:?}");
        }
        let refused = root.authority.certify_intermediate(&request, root.worker(), daemon::now());
        assert!(matches!(refused, Err(AuthorityError::NotEntitled { .. })), "{refused:?}");
    }

    #[test]
    fn it_is_lent_for_one_step_and_for_signing_only() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let (_, pem) = x509_parser::pem::parse_x509_pem(cluster.certificate_pem.as_bytes()).expect("PEM");
        let certificate = pem.parse_x509().expect("a certificate");
        let limits = certificate.basic_constraints().expect("readable").expect("there").value;
        assert_eq!((limits.ca, limits.path_len_constraint), (true, Some(0)));
        let usage = certificate.key_usage().expect("readable").expect("there").value;
        assert!(usage.key_cert_sign() && !usage.crl_sign() && !usage.digital_signature());
    }

    #[test]
    fn it_is_found_again_by_its_cluster_only_and_another_is_not_installed() {
        let root = Root::new();
        let cluster = Cluster::new(&root, root.cluster());
        let state = StateDirectory::open(cluster.directory.path()).expect("usable");
        let found = Intermediate::load(&state, &cluster.identity).expect("readable").expect("there");
        assert_eq!(found.subject(), root.cluster());
        let in_a_year = daemon::now().0 + YEAR;
        assert!((in_a_year - 60_000..=in_a_year).contains(&found.lifetime().expires.0));
        let joined_anew = root.identity(other_cluster(&root));
        assert!(Intermediate::load(&state, &joined_anew).expect("readable").is_none());

        let request = Intermediate::request(&state).expect("a request");
        let (_directory, other_key) = fresh_key();
        let other_request = other_key.certificate_request().expect("a request");
        for (request, subject) in [(&request, other_cluster(&root)), (&other_request, root.cluster())] {
            let pem = root.authority.certify_intermediate(request, subject, daemon::now()).expect("signed");
            let refused = Intermediate::install(&state, &cluster.identity, &pem);
            assert!(matches!(refused, Err(IdentityError::Invalid { .. })), "{refused:?}");
        }
        let leaf = root.authority.certify(&request, root.cluster(), daemon::now()).expect("signed");
        assert!(Intermediate::install(&state, &cluster.identity, &leaf).is_err(), "it may not sign");
        assert!(Intermediate::load(&state, &cluster.identity).expect("readable").is_some());
    }

    #[test]
    fn a_device_has_the_same_id_wherever_it_enrols() {
        let (_directory, key) = fresh_key();
        let fingerprint = link::key_fingerprint(&key.certificate_request().expect("a request")).expect("one");
        let again = link::key_fingerprint(&key.certificate_request().expect("a request")).expect("one");
        assert_eq!(link::device_uuid(&fingerprint), link::device_uuid(&again));
        let known = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        assert_eq!(link::device_uuid(known).to_string(), "00112233-4455-8677-8899-aabbccddeeff");
    }
}
