//! The relay for devices that do not reach the one of their cluster. The root learns no device: it lends each cluster a key,
//! and the relay believes whoever has one that follows from it. What a relay is, `crates/relay` says.

use std::net::SocketAddr;

use anyhow::Context;
use daemon::StateDirectory;
use model::{ClusterId, RelayLoan};
use relay::{Relay, RootSecret};

use crate::Config;

const SECRET_FILE: &str = "relay.key";

/// The relay and what its keys follow from.
#[derive(Debug)]
pub(crate) struct Lending {
    relay: Relay,
    secret: RootSecret,
    /// Where devices are told that it is: without an address, where their cluster dials the root.
    address: Option<SocketAddr>,
    port: u16,
}

impl Lending {
    /// Opens the relay; a root without one goes on.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub(crate) fn open(config: &Config, directory: &StateDirectory) -> anyhow::Result<Option<Self>> {
        let secret = load_or_create(directory)?;
        let listen = SocketAddr::new(config.cluster_listen.ip(), config.relay_port);
        let bound = Relay::bind(listen).and_then(|relay| Ok((relay.local_addr()?.port(), relay)));
        let (port, relay) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the relay cannot listen on UDP {listen}: devices that do not reach the relay of their cluster stay \
                     cut off; stop what uses the port, or pass --relay-port"
                );
                return Ok(None);
            }
        };
        tracing::info!(%listen, "the relay is ready");
        Ok(Some(Self { relay, secret, address: config.relay_address, port }))
    }

    /// Devices of this cluster may register.
    pub(crate) fn admit(&self, cluster: ClusterId) {
        self.relay.admit(cluster, self.secret.lend(cluster));
    }

    /// The cluster was removed, and its devices may register no more.
    pub(crate) fn expel(&self, cluster: ClusterId) {
        self.relay.expel(cluster);
    }

    /// What a cluster is told.
    pub(crate) fn loan_to(&self, cluster: ClusterId) -> RelayLoan {
        RelayLoan {
            address: self.address.map(|address| address.ip()),
            port: self.address.map_or(self.port, |address| address.port()),
            key: self.secret.lend(cluster).0,
        }
    }

    /// Serves devices, without end.
    pub(crate) async fn serve(&self) {
        loop {
            // Nobody here has a use for where a device is seen: it says so itself, to its cluster.
            self.relay.serve().await;
        }
    }
}

fn load_or_create(directory: &StateDirectory) -> anyhow::Result<RootSecret> {
    if let Some(kept) = directory.read_file(SECRET_FILE).context("read the secret of the relay")? {
        let bytes = <[u8; 32]>::try_from(kept);
        return bytes.map(RootSecret).map_err(|kept| {
            anyhow::anyhow!(
                "{SECRET_FILE} in the state directory has {} bytes, not 32; remove it, and devices get other keys",
                kept.len()
            )
        });
    }
    let secret = RootSecret::generate();
    directory.replace_file(SECRET_FILE, &secret.0).context("keep the secret of the relay")?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use uuid::Uuid;

    use super::*;

    fn open(directory: &StateDirectory, port: u16) -> anyhow::Result<Option<Lending>> {
        let port = port.to_string();
        let arguments = ["root-orchestrator", "--cluster-listen", "127.0.0.1:0", "--relay-port", &port];
        Lending::open(&Config::try_parse_from(arguments).expect("complete"), directory)
    }

    #[tokio::test]
    async fn a_root_whose_relay_finds_its_port_taken_goes_on_without_one() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::open(parent.path()).expect("a directory");
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        assert!(open(&directory, port).expect("it goes on").is_none());
        assert!(open(&directory, 0).expect("it goes on").is_some());
    }

    #[tokio::test]
    async fn the_same_is_lent_after_a_restart_and_to_no_other_cluster() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::open(parent.path()).expect("a directory");
        let [one, other] = [1, 2].map(|number| ClusterId::new(Uuid::from_u128(number)));
        let lent = |cluster| open(&directory, 0).expect("usable").expect("a relay").loan_to(cluster).key;
        assert_eq!(lent(one), lent(one));
        assert_ne!(lent(one), lent(other));
        directory.replace_file(SECRET_FILE, b"short").expect("writable");
        let error = open(&directory, 0).map(drop).expect_err("no secret").to_string();
        assert!(error.contains("relay.key in the state directory has 5 bytes, not 32"), "{error}");
    }
}
