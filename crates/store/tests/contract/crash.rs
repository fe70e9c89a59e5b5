//! Killed in the middle of commits: this program starts itself again, and ends that with SIGKILL.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use store::Store;

use crate::places::{Place, put, things};

/// What the other process is told, and knows by that that it is to be killed.
const PLACE: &str = "MANGROVE_TEST_COMMIT_UNTIL_KILLED";
/// What it says with each commit that was acknowledged.
const ACKNOWLEDGED: &str = "acknowledged ";

pub(crate) async fn whoever_is_killed_has_kept_what_it_acknowledged(place: Place) {
    if let Ok(told) = env::var(PLACE) {
        commit_until_killed(&told).await;
    }
    let mut last = 0;
    for round in 0..6 {
        last = run_until(&place, last + 10 + 7 * round);
        let store = place.open().await;
        let pair = read_pair(store.as_ref()).await;
        assert_eq!(pair.0, pair.1, "a commit is there whole or not at all");
        assert!(pair.0 >= last, "{last} was acknowledged, {} is there", pair.0);
        last = pair.0;
    }
}

async fn read_pair(store: &dyn Store) -> (u64, u64) {
    let things = things(store).await;
    let of = |key: &str| things.iter().find_map(|thing| thing.strip_prefix(key)?.parse().ok()).unwrap_or(0);
    (of("one="), of("other="))
}

async fn commit_until_killed(told: &str) {
    let store = Place::open_told(told).await;
    let (mut number, _) = read_pair(store.as_ref()).await;
    loop {
        number += 1;
        let text = number.to_string();
        store.commit(vec![put("one", &text), put("other", &text)]).await.expect("committed");
        println!("\n{ACKNOWLEDGED}{number}");
    }
}

/// Kills it once it has acknowledged so many; the last that it acknowledged.
fn run_until(place: &Place, enough: u64) -> u64 {
    let module = match place {
        Place::Sqlite(_) => "sqlite",
        Place::MongoDb(_) => "mongodb",
    };
    let scratch = tempfile::tempdir().expect("a directory");
    let child = Command::new(env::current_exe().expect("this program"))
        .args([
            "--exact",
            &format!("{module}::whoever_is_killed_has_kept_what_it_acknowledged"),
            "--nocapture",
        ])
        .env(PLACE, place.tell())
        // What it leaves there goes with this.
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut child = Killed(child);
    let output = BufReader::new(child.0.stdout.take().expect("piped"));
    let mut last = 0;
    for line in output.lines() {
        let line = line.expect("text");
        let Some(number) = line.strip_prefix(ACKNOWLEDGED).and_then(|number| number.parse().ok()) else {
            continue;
        };
        last = number;
        if last >= enough {
            // What it says until it is gone is read as well.
            child.0.kill().expect("it runs");
        }
    }
    assert!(last >= enough, "it ended by itself");
    last
}

/// Does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
