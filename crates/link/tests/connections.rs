//! Who is let in, and who is refused: real TLS over loopback.

#[cfg(test)]
mod support;

#[cfg(test)]
mod connections {
    use std::{net::SocketAddr, time::Duration};

    use daemon::StateDirectory;
    use link::{Authority, Dial, Identity, KeyPair, Revocations, dial};
    use proto::v1::{self, enrolment_client::EnrolmentClient, enrolment_server::EnrolmentServer};
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::{mpsc, watch},
        time::timeout,
    };
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    use crate::support::{Doorman, Root, call, reason, serve};

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
    async fn an_expired_certificate_opens_nothing_but_its_renewal() {
        let root = Root::new();
        let doorman = Doorman { needs_certificate: true, ..Doorman::default() };
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let two_years_ago = model::Timestamp(daemon::now().0 - 730 * 86_400_000);
        let old = root.authority.certify(&request, root.cluster(), two_years_ago).expect("signed");
        let identity = Identity::new(&key, &old, root.authority.certificate_pem()).expect("parses");
        let outcome = call(&address, Dial::As(&identity, root.root())).await;
        assert!(matches!(outcome, Ok(Err(Code::Unauthenticated))), "{outcome:?}");
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), [None], "it is nobody until it is renewed");
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

    /// Does something while a root serves, and is told of knocks.
    async fn while_serving<T>(
        root: &Root,
        work: impl AsyncFnOnce(SocketAddr, mpsc::UnboundedReceiver<()>) -> T,
    ) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (knock, knocks) = mpsc::unbounded_channel();
        // Nobody may count them any more.
        let knocked = move || knock.send(()).unwrap_or(());
        let identity = watch::channel(root.identity(root.root())).1;
        let routes = |mut server: tonic::transport::Server| {
            server.add_service(EnrolmentServer::new(Doorman::default()))
        };
        let serving = link::serve(
            listener,
            identity,
            Revocations::default(),
            knocked,
            routes,
            CancellationToken::new(),
        );
        tokio::select! {
            ended = serving => panic!("the port was closed: {ended:?}"),
            done = work(address, knocks) => done,
        }
    }

    async fn three_more(knocks: &mut mpsc::UnboundedReceiver<()>) {
        while knocks.try_recv().is_ok() {}
        for _ in 0..3 {
            timeout(Duration::from_secs(30), knocks.recv()).await.expect("in time").expect("it is told");
        }
    }

    #[tokio::test]
    async fn who_waits_to_be_let_in_goes_on_knocking() {
        while_serving(&Root::new(), async |address, mut knocks| {
            let _silent = TcpStream::connect(address).await.expect("it listens");
            three_more(&mut knocks).await;
        })
        .await;
    }

    #[tokio::test]
    async fn who_is_let_in_goes_on_knocking_until_it_asks_for_something() {
        let root = Root::new();
        while_serving(&root, async |address, mut knocks| {
            let child = root.identity(root.cluster());
            let channel = dial(&address.to_string(), Dial::As(&child, root.root())).await.expect("let in");
            three_more(&mut knocks).await;
            let request = v1::EnrolRequest::default();
            EnrolmentClient::new(channel).enrol(request).await.expect("the doorman answers");
            while knocks.try_recv().is_ok() {}
            let another = timeout(Duration::from_millis(2500), knocks.recv()).await;
            assert!(another.is_err(), "it has asked");
        })
        .await;
    }
}
