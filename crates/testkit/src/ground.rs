//! What daemons stand on: ports and state directories.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
};

use daemon::StateDirectory;
use tempfile::TempDir;

/// A port once it is free.
pub(crate) async fn listen(address: IpAddr, port: u16) -> TcpListener {
    let address = SocketAddr::new(address, port);
    crate::wait_until("a port to be free", async || {
        TcpListener::bind(address).map_err(|error| error.to_string())
    })
    .await
}

pub(crate) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("bound").port()
}

/// For one daemon.
pub(crate) fn new_directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Everything in a state directory.
pub(crate) fn contents(directory: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(directory.join("state")).expect("there");
    let files = files.map(|file| file.expect("listed").path()).filter(|path| path.is_file());
    files.flat_map(|path| std::fs::read(path).expect("readable")).collect()
}

/// Runs `start` once the daemon before has let go of its state directory.
pub(crate) async fn unlocked<T>(directory: &Path, start: impl FnOnce() -> T) -> T {
    let state = directory.join("state");
    crate::wait_until("the state directory to be free", async || {
        StateDirectory::open(&state).map(drop).map_err(|error| error.to_string())
    })
    .await;
    start()
}
