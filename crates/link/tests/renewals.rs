//! Certificates that are renewed while a connection stands, and after they have ended: real TLS over loopback.

#[cfg(test)]
mod support;

#[cfg(test)]
mod renewals {
    use std::{sync::Arc, time::Duration};

    use daemon::StateDirectory;
    use link::{Credentials, Dial, Identity, KeyPair, Revocations, Subject, dial};
    use model::{Span, Timestamp};
    use proto::v1::{self, enrolment_client::EnrolmentClient};
    use tempfile::TempDir;
    use tokio::sync::watch;
    use tonic::Code;

    use crate::support::{Doorman, Root, call, reason, serve, serve_as};

    const YEAR: u64 = 365 * 86_400_000;

    /// A cluster that joined at some time, with what it keeps.
    struct Child {
        _directory: TempDir,
        state: Arc<StateDirectory>,
        credentials: Arc<Credentials>,
    }

    impl Child {
        fn joined(root: &Root, subject: Subject, at: Timestamp) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let state = Arc::new(StateDirectory::open(directory.path()).expect("usable"));
            let key = KeyPair::load_or_generate(&state).expect("a key");
            let request = key.certificate_request().expect("a request");
            let certificate = root.authority.certify(&request, subject, at).expect("signed");
            Identity::save(&state, &certificate, root.authority.certificate_pem()).expect("kept");
            let identity = Identity::load(&state).expect("readable").expect("there");
            let credentials = Arc::new(Credentials::new(Arc::clone(&state), identity));
            Self { _directory: directory, state, credentials }
        }
    }

    fn signing(root: &Root) -> Doorman {
        Doorman {
            needs_certificate: true,
            authority: Some(Arc::clone(&root.authority)),
            ..Doorman::default()
        }
    }

    async fn renewed(child: &Child, before: Timestamp) -> Identity {
        let mut identity = child.credentials.follow();
        let renewed = identity.wait_for(|identity| identity.lifetime().expires > before);
        tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("renewed").expect("kept").clone()
    }

    #[tokio::test]
    async fn one_that_is_due_is_renewed_over_the_connection_there_is_and_kept() {
        let root = Root::new();
        let doorman = signing(&root);
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let child = Child::joined(&root, root.cluster(), Timestamp(daemon::now().0 - YEAR * 3 / 4));
        let before = child.credentials.identity();
        let dialled = child.credentials.connect(&address, root.root()).await.expect("still good");
        let keeping = tokio::spawn({
            let (credentials, channel) = (Arc::clone(&child.credentials), dialled.channel.clone());
            async move { match credentials.keep_fresh(channel).await {} }
        });
        let after = renewed(&child, before.lifetime().expires).await;
        keeping.abort();
        assert_eq!(*doorman.renewed.borrow(), [root.cluster()]);
        assert_ne!(after.record().serial, before.record().serial);
        let kept = Identity::load(&child.state).expect("readable").expect("there");
        assert_eq!(kept.record(), after.record());
        // What stands goes on, and the old one is good beside the new one as long as it lasts.
        EnrolmentClient::new(dialled.channel).enrol(v1::EnrolRequest::default()).await.expect("it stands");
        for identity in [&before, &after] {
            assert!(matches!(call(&address, Dial::As(identity, root.root())).await, Ok(Ok(()))));
        }
    }

    #[tokio::test]
    async fn one_that_is_fresh_is_left_alone() {
        let root = Root::new();
        let doorman = signing(&root);
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let child = Child::joined(&root, root.cluster(), Timestamp(daemon::now().0 - YEAR / 2));
        let dialled = child.credentials.connect(&address, root.root()).await.expect("good");
        let keeping = child.credentials.keep_fresh(dialled.channel);
        let kept = tokio::time::timeout(Duration::from_millis(300), keeping).await;
        assert!(kept.is_err(), "it waits");
        assert_eq!(*doorman.renewed.borrow(), []);
    }

    #[tokio::test]
    async fn a_renewal_that_fails_is_tried_again() {
        let root = Root::new();
        let refusing = Doorman { needs_certificate: true, ..Doorman::default() };
        let (address, stop) = serve(root.identity(root.root()), refusing.clone()).await;
        let child = Child::joined(&root, root.cluster(), Timestamp(daemon::now().0 - YEAR * 3 / 4));
        let before = child.credentials.identity();
        let dialled = child.credentials.connect(&address, root.root()).await.expect("still good");
        let mut asked = refusing.renewed.subscribe();
        let again = asked.wait_for(|asked| asked.len() == 2);
        tokio::select! {
            never = child.credentials.keep_fresh(dialled.channel) => match never {},
            twice = tokio::time::timeout(Duration::from_secs(10), again) => {
                drop(twice.expect("it tries again").expect("the parent is there"));
            }
        }
        assert_eq!(child.credentials.identity().record(), before.record(), "what it has is kept");
        stop.cancel();
    }

    #[tokio::test]
    async fn one_that_has_ended_is_renewed_by_its_key_before_anything_else() {
        let root = Root::new();
        let doorman = signing(&root);
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let child = Child::joined(&root, root.cluster(), Timestamp(daemon::now().0 - 2 * YEAR));
        let dialled = child.credentials.connect(&address, root.root()).await.expect("renewed on the way");
        EnrolmentClient::new(dialled.channel).enrol(v1::EnrolRequest::default()).await.expect("let in");
        assert_eq!(*doorman.renewed.borrow(), [root.cluster()]);
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), [Some(root.cluster())]);
    }

    #[tokio::test]
    async fn another_key_is_not_certified_in_its_place() {
        let root = Root::new();
        let doorman = signing(&root);
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let (child, other) = (
            Child::joined(&root, root.cluster(), daemon::now()),
            Child::joined(&root, root.cluster(), daemon::now()),
        );
        let identity = child.credentials.identity();
        let channel = dial(&address, Dial::As(&identity, root.root())).await.expect("good");
        let key = KeyPair::load_or_generate(&other.state).expect("a key");
        let request =
            v1::CertificateRequest { certificate_request_pem: key.certificate_request().expect("one") };
        let refused = EnrolmentClient::new(channel).renew(request.clone()).await.expect_err("another key");
        assert_eq!(refused.code(), Code::InvalidArgument);
        // Nor is anything for who shows no certificate at all.
        let channel = dial(&address, Dial::Joining(&root.token())).await.expect("may enrol");
        let refused = EnrolmentClient::new(channel).renew(request).await.expect_err("nobody");
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(*doorman.renewed.borrow(), []);
    }

    #[tokio::test]
    async fn a_parent_shows_its_new_certificate_to_whoever_comes_next() {
        let root = Root::new();
        let day_old = Timestamp(daemon::now().0 - 86_400_000);
        let parent = Child::joined(&root, root.root(), day_old);
        let (own, shown) = watch::channel(parent.credentials.identity());
        let (address, _stop) = serve_as(shown, Revocations::default(), signing(&root)).await;
        let child = root.identity(root.cluster());
        let standing = dial(&address, Dial::As(&child, root.root())).await.expect("good");
        // It is replaced by one that nobody believes, so that it can be told apart.
        own.send_replace(root.identity(root.worker()));
        let said = reason(call(&address, Dial::As(&child, root.root())).await);
        assert!(said.contains("which was not expected here"), "{said}");
        EnrolmentClient::new(standing).enrol(v1::EnrolRequest::default()).await.expect("it stands");
    }

    #[tokio::test]
    async fn a_certificate_from_what_seems_the_future_is_believed_and_moves_the_clock() {
        let root = Root::new();
        let ahead = Timestamp(daemon::now().0 + YEAR / 2);
        let parent = Child::joined(&root, root.root(), ahead);
        let doorman = signing(&root);
        let (address, _stop) = serve(parent.credentials.identity(), doorman).await;
        let child = Child::joined(&root, root.cluster(), daemon::now());
        assert!(child.credentials.identity().now() < ahead);
        assert!(child.credentials.connect(&address, root.root()).await.is_ok());
        let now = child.credentials.identity().now();
        assert!(now.0 >= ahead.0 / 1000 * 1000, "{now:?} is before {ahead:?}");
        // As for a parent whose clock is behind that of its child.
        let (address, _stop) = serve(root.identity(root.root()), signing(&root)).await;
        let early = Child::joined(&root, root.cluster(), ahead);
        assert!(matches!(
            call(&address, Dial::As(&early.credentials.identity(), root.root())).await,
            Ok(Ok(()))
        ));
    }

    #[test]
    fn a_life_is_a_span_of_two_seconds_at_least() {
        assert_eq!(link::certificate_life("2s"), Ok(Span::from_secs(2)));
        assert!(link::certificate_life("1999ms").is_err() && link::certificate_life("soon").is_err());
    }
}
