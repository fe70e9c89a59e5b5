//! Who is refused, and what the log says of it: real TLS over loopback.

#[cfg(test)]
mod support;

#[cfg(test)]
mod refusals {
    use std::{
        io::{self, Write},
        sync::Arc,
        time::Duration,
    };

    use link::{Dial, Identity, KeyPair, Revocations, Revoked, Subject, dial};
    use model::{ClusterId, Timestamp};
    use proto::v1::{self, enrolment_client::EnrolmentClient};
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };
    use tokio::sync::watch;
    use tokio_rustls::TlsConnector;
    use tonic::Code;
    use tracing::subscriber::DefaultGuard;
    use uuid::Uuid;

    use crate::support::{Doorman, Root, call, reason, serve, serve_as};

    /// Keeps what is logged on this thread, on which everything in these tests runs.
    #[derive(Clone, Default)]
    struct Log(watch::Sender<Vec<u8>>);

    impl Write for Log {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send_modify(|log| log.extend_from_slice(line));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn begin() -> (Self, DefaultGuard) {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::INFO)
                .with_writer(move || writer.clone())
                .finish();
            (log, tracing::subscriber::set_default(subscriber))
        }

        /// The one line that says why a peer was refused.
        async fn refusal(&self) -> String {
            let line = self.line("a peer was refused").await;
            assert!(line.contains("WARN") && line.contains("address=127.0.0.1:"), "{line}");
            line
        }

        /// The only line that has this, as soon as there is one.
        async fn line(&self, part: &str) -> String {
            let has_it = |log: &Vec<u8>| log.windows(part.len()).any(|bytes| bytes == part.as_bytes());
            let mut told = self.0.subscribe();
            let said = tokio::time::timeout(Duration::from_secs(5), told.wait_for(has_it)).await;
            let text =
                String::from_utf8(said.expect("it is told").expect("it goes on").clone()).expect("text");
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
            let [line] = lines[..] else { panic!("told more than once: {lines:?}") };
            line.to_owned()
        }
    }

    fn signed_by(root: &Root, subject: Subject, trusting: &Root, at: Timestamp) -> Identity {
        let directory = tempfile::tempdir().expect("a directory");
        let state = daemon::StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let certificate = root.authority.certify(&request, subject, at).expect("signed");
        Identity::new(&key, &certificate, trusting.authority.certificate_pem()).expect("parses")
    }

    fn strict() -> Doorman {
        Doorman { needs_certificate: true, ..Doorman::default() }
    }

    #[tokio::test]
    async fn a_peer_of_another_root_is_told_of_as_foreign_and_only_once() {
        let (log, _logging) = Log::begin();
        let (root, stranger) = (Root::new(), Root::new());
        let (address, _stop) = serve(root.identity(root.root()), strict()).await;
        let foreign = signed_by(&stranger, root.cluster(), &root, daemon::now());
        for _ in 0..3 {
            let outcome = call(&address, Dial::As(&foreign, root.root())).await;
            assert!(!matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        }
        let line = log.refusal().await;
        assert!(line.contains("reason=foreign"), "{line}");
    }

    #[tokio::test]
    async fn a_peer_of_this_root_that_belongs_elsewhere_is_told_of_as_wrong() {
        let (log, _logging) = Log::begin();
        let root = Root::new();
        let other = ClusterId::new(Uuid::from_u128(77));
        let doorman = strict();
        let parent = root.identity(Subject::Cluster { root: root.id, cluster: other });
        let (address, _stop) = serve(parent, doorman.clone()).await;
        let stray = root.identity(root.worker());
        let parent = Subject::Cluster { root: root.id, cluster: other };
        let outcome = call(&address, Dial::As(&stray, parent)).await;
        assert!(!matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        let line = log.refusal().await;
        assert!(line.contains("reason=wrong") && line.contains(&root.worker().to_string()), "{line}");
        assert_eq!(*doorman.seen.lock().expect("not poisoned"), []);
    }

    #[tokio::test]
    async fn a_peer_whose_certificate_has_ended_is_told_of_as_expired() {
        let (log, _logging) = Log::begin();
        let root = Root::new();
        let (address, _stop) = serve(root.identity(root.root()), strict()).await;
        let two_years_ago = Timestamp(daemon::now().0 - 730 * 86_400_000);
        let old = signed_by(&root, root.cluster(), &root, two_years_ago);
        let outcome = call(&address, Dial::As(&old, root.root())).await;
        assert!(matches!(outcome, Ok(Err(Code::Unauthenticated))), "{outcome:?}");
        let line = log.refusal().await;
        assert!(line.contains("reason=expired") && line.contains(&root.cluster().to_string()), "{line}");
    }

    #[tokio::test]
    async fn a_revoked_peer_is_cut_off_at_once_and_told_of_when_it_comes_back() {
        let (log, _logging) = Log::begin();
        let root = Root::new();
        let revocations = Revocations::default();
        let own = watch::channel(root.identity(root.root())).1;
        let doorman = strict();
        let (address, _stop) = serve_as(own, revocations.clone(), doorman.clone()).await;
        let [good, other] = [1, 2].map(|number| {
            let cluster = ClusterId::new(Uuid::from_u128(number));
            root.identity(Subject::Cluster { root: root.id, cluster })
        });
        let ask = async |channel: &tonic::transport::Channel| {
            EnrolmentClient::new(channel.clone()).enrol(v1::EnrolRequest::default()).await.map(drop)
        };
        let standing = dial(&address, Dial::As(&good, root.root())).await.expect("let in");
        let bystander = dial(&address, Dial::As(&other, root.root())).await.expect("let in");
        ask(&standing).await.expect("answered");

        revocations.replace([Revoked::Cluster(ClusterId::new(Uuid::from_u128(1)))].into());
        let cut_off = tokio::time::timeout(Duration::from_secs(10), ask(&standing)).await.expect("an answer");
        assert!(cut_off.is_err(), "it stands no more");
        ask(&bystander).await.expect("nothing happens to others");
        let before = doorman.seen.lock().expect("not poisoned").len();
        let outcome = call(&address, Dial::As(&good, root.root())).await;
        assert!(!matches!(outcome, Ok(Ok(()))), "{outcome:?}");
        assert_eq!(doorman.seen.lock().expect("not poisoned").len(), before);
        let line = log.refusal().await;
        assert!(line.contains("reason=revoked"), "{line}");

        revocations.replace([].into());
        assert!(matches!(call(&address, Dial::As(&good, root.root())).await, Ok(Ok(()))));
    }

    #[tokio::test]
    async fn a_parent_whose_certificate_has_ended_is_refused_by_its_children() {
        let root = Root::new();
        let two_years_ago = Timestamp(daemon::now().0 - 730 * 86_400_000);
        let (address, _stop) = serve(signed_by(&root, root.root(), &root, two_years_ago), strict()).await;
        let child = root.identity(root.cluster());
        for how in [Dial::As(&child, root.root()), Dial::Joining(&root.token())] {
            let said = reason(call(&address, how).await);
            assert!(said.contains("expired"), "{said}");
        }
    }

    #[tokio::test]
    async fn an_older_tls_is_not_spoken() {
        let (log, _logging) = Log::begin();
        let root = Root::new();
        let doorman = Doorman::default();
        let (address, _stop) = serve(root.identity(root.root()), doorman.clone()).await;
        let shake = async |version| {
            let mut trusted = RootCertStore::empty();
            let authority = root.authority.certificate_pem().as_bytes();
            trusted.add(CertificateDer::from_pem_slice(authority).expect("a certificate")).expect("trusted");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .expect("known")
                .with_root_certificates(trusted)
                .with_no_client_auth();
            let stream = tokio::net::TcpStream::connect(&address).await.expect("listening");
            let name = ServerName::try_from("parent.mangrove").expect("a name");
            let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
            shaken.map(drop).map_err(|error| error.to_string()).expect_err("it has no such name")
        };
        // Of TLS 1.3 the parent shows its certificate, which has no host name; of TLS 1.2 not even that.
        let said = shake(&rustls::version::TLS13).await;
        assert!(said.contains("certificate"), "{said}");
        let said = shake(&rustls::version::TLS12).await;
        assert!(said.contains("ProtocolVersion"), "{said}");
        log.line("reason=old TLS").await;
    }
}
