//! Who is let in, and who is refused: real TLS over loopback.

#[cfg(test)]
mod connections {
    use std::sync::{Arc, Mutex};

    use daemon::StateDirectory;
    use link::{
        Authority, Dial, DialError, Identity, JoinToken, KeyPair, Subject, dial, peer_of, require_peer,
    };
    use model::{ClusterId, TokenId, WorkerId};
    use proto::v1::{
        self,
        enrolment_client::EnrolmentClient,
        enrolment_server::{Enrolment, EnrolmentServer},
    };
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;
    use tonic::{Code, Request, Response, Status};
    use uuid::Uuid;

    /// Says who called; asks for a certificate when told to.
    #[derive(Clone, Default)]
    struct Doorman {
        needs_certificate: bool,
        seen: Arc<Mutex<Vec<Option<Subject>>>>,
    }

    #[tonic::async_trait]
    impl Enrolment for Doorman {
        async fn enrol(
            &self,
            request: Request<v1::EnrolRequest>,
        ) -> Result<Response<v1::Certificate>, Status> {
            self.seen.lock().expect("not poisoned").push(peer_of(&request).subject);
            if self.needs_certificate {
                require_peer(&request)?;
            }
            Ok(Response::new(v1::Certificate::default()))
        }
    }

    struct Root {
        _directory: tempfile::TempDir,
        authority: Authority,
        id: Uuid,
    }

    impl Root {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let state = StateDirectory::open(&directory.path().join("root")).expect("usable");
            let id = daemon::fresh_uuid();
            let authority = Authority::load_or_create(&state, id, daemon::now()).expect("made");
            Self { _directory: directory, authority, id }
        }

        fn identity(&self, subject: Subject) -> Identity {
            let directory = tempfile::tempdir().expect("a directory");
            let state = StateDirectory::open(directory.path()).expect("usable");
            let key = KeyPair::load_or_generate(&state).expect("a key");
            let request = key.certificate_request().expect("a request");
            let certificate = self.authority.certify(&request, subject, daemon::now()).expect("signed");
            Identity::new(&key, &certificate, self.authority.certificate_pem()).expect("fits")
        }

        fn root(&self) -> Subject {
            Subject::Root { root: self.id }
        }

        fn cluster(&self) -> Subject {
            Subject::Cluster { root: self.id, cluster: ClusterId::new(Uuid::from_u128(1)) }
        }

        fn worker(&self) -> Subject {
            let cluster = ClusterId::new(Uuid::from_u128(1));
            Subject::Worker { root: self.id, cluster, worker: WorkerId::new(Uuid::from_u128(2)) }
        }

        fn token(&self) -> JoinToken {
            JoinToken::generate(TokenId::new(Uuid::from_u128(3)), self.authority.pin())
        }
    }

    async fn serve(identity: Identity, doorman: Doorman) -> (String, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let routes =
                |mut server: tonic::transport::Server| server.add_service(EnrolmentServer::new(doorman));
            link::serve(listener, &identity, routes, stop).await
        });
        (address, shutdown)
    }

    async fn call(address: &str, how: Dial<'_>) -> Result<Result<(), Code>, DialError> {
        let channel = dial(address, how).await?;
        let answer = EnrolmentClient::new(channel).enrol(v1::EnrolRequest::default()).await;
        Ok(answer.map(drop).map_err(|status| status.code()))
    }

    fn reason(outcome: Result<Result<(), Code>, DialError>) -> String {
        match outcome {
            Err(DialError::Unreachable { reason, .. }) => reason,
            other => panic!("expected no connection, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_child_is_known_by_its_certificate() {
        let root = Root::new();
        let doorman = Doorman::default();
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let identity = root.identity(root.cluster());
        assert!(matches!(call(&address, Dial::As(&identity, root.root())).await, Ok(Ok(()))));
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), [Some(root.cluster())]);
    }

    #[tokio::test]
    async fn who_has_only_a_token_may_enrol_and_nothing_else() {
        let root = Root::new();
        let doorman = Doorman::default();
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        assert!(matches!(call(&address, Dial::Joining(&root.token())).await, Ok(Ok(()))));
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), [None]);

        let strict = Doorman { needs_certificate: true, ..Doorman::default() };
        let (address, _stop) = serve(root.identity(root.root()), strict).await;
        let outcome = call(&address, Dial::Joining(&root.token())).await;
        assert!(matches!(outcome, Ok(Err(Code::Unauthenticated))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_token_is_not_shown_to_a_stranger() {
        let (root, stranger) = (Root::new(), Root::new());
        let doorman = Doorman::default();
        let (address, _stop) = serve(stranger.identity(stranger.root()), doorman.clone()).await;
        let reason = reason(call(&address, Dial::Joining(&root.token())).await);
        assert!(reason.contains("not the one the join token names"), "{reason}");
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), []);
    }

    #[tokio::test]
    async fn a_parent_of_another_root_or_of_another_name_is_refused() {
        let (root, stranger) = (Root::new(), Root::new());
        let identity = root.identity(root.cluster());
        let (address, _stop) = serve(stranger.identity(stranger.root()), Doorman::default()).await;
        assert!(call(&address, Dial::As(&identity, root.root())).await.is_err());

        let (address, _stop) = serve(root.identity(root.worker()), Doorman::default()).await;
        let reason = reason(call(&address, Dial::As(&identity, root.root())).await);
        assert!(reason.contains("which was not expected here"), "{reason}");
    }

    #[tokio::test]
    async fn a_worker_cannot_pose_as_a_parent_to_one_who_joins() {
        let root = Root::new();
        let (address, _stop) = serve(root.identity(root.worker()), Doorman::default()).await;
        let reason = reason(call(&address, Dial::Joining(&root.token())).await);
        assert!(reason.contains("which was not expected here"), "{reason}");
    }

    #[tokio::test]
    async fn a_certificate_of_another_root_opens_nothing() {
        let (root, stranger) = (Root::new(), Root::new());
        let doorman = Doorman::default();
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        // Signed by the stranger, but trusting the root: what an attacker would build.
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let forged = stranger.authority.certify(&request, root.cluster(), daemon::now()).expect("signed");
        let identity = Identity::new(&key, &forged, root.authority.certificate_pem()).expect("parses");
        let outcome = call(&address, Dial::As(&identity, root.root())).await;
        assert!(!matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), []);
    }

    #[tokio::test]
    async fn an_expired_certificate_opens_nothing() {
        let root = Root::new();
        let doorman = Doorman::default();
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let two_years_ago = model::Timestamp(daemon::now().0 - 730 * 86_400_000);
        let old = root.authority.certify(&request, root.cluster(), two_years_ago).expect("signed");
        let identity = Identity::new(&key, &old, root.authority.certificate_pem()).expect("parses");
        let outcome = call(&address, Dial::As(&identity, root.root())).await;
        assert!(!matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), []);
    }

    #[tokio::test]
    async fn plain_text_and_silence_do_not_stop_the_port() {
        use tokio::io::AsyncWriteExt;
        let root = Root::new();
        let (address, _stop) = serve(root.identity(root.root()), Doorman::default()).await;
        let mut loud = tokio::net::TcpStream::connect(&address).await.expect("listening");
        loud.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        let _silent: Vec<_> = a_hundred_silent_connections(&address).await;
        let identity = root.identity(root.cluster());
        assert!(matches!(call(&address, Dial::As(&identity, root.root())).await, Ok(Ok(()))));
    }

    async fn a_hundred_silent_connections(address: &str) -> Vec<tokio::net::TcpStream> {
        let mut connections = Vec::new();
        for _ in 0..100 {
            connections.push(tokio::net::TcpStream::connect(address).await.expect("listening"));
        }
        connections
    }

    #[tokio::test]
    async fn an_identity_is_found_again_and_a_damaged_authority_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let root = daemon::fresh_uuid();
        let first = Authority::load_or_create(&state, root, daemon::now()).expect("made");
        let again = Authority::load_or_create(&state, root, daemon::now()).expect("found");
        assert_eq!(first.pin(), again.pin());
        state.replace_file("authority.pem", b"nonsense").expect("writable");
        assert!(Authority::load_or_create(&state, root, daemon::now()).is_err());
    }
}
