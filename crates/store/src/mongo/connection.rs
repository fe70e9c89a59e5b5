//! The way to the server: the URL, what is asked of it in general, and how long it is tried.

use std::{fmt, future::IntoFuture, time::Duration};

use mongodb::{
    Client, Collection, Database,
    error::{Error, ErrorKind},
    options::{ClientOptions, DatabaseOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
};
use tokio::time::{Instant, sleep, timeout};

use super::layout::{Entry, Head, Part, StoredVersion};
use crate::StoreError;

/// The database, if the URL names none.
const DATABASE: &str = "mangrove";
/// How long one request may take: more than a list of a large collection needs.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How long to try again: more than a replica set needs for choosing another primary, which is some twelve seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request looks for a server before it is tried again, if the URL does not say.
const SELECTION: Duration = Duration::from_secs(5);
/// Between two tries, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// One writer asks for one thing at a time; another connection beats.
const CONNECTIONS: u32 = 4;
/// What trying again does not mend: no rights, not logged in, a command that is not known.
const HOPELESS: [i32; 4] = [13, 18, 59, 8000];

const URL: &str = "mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[DATABASE][?OPTION=VALUE&…]";

/// The collections of one store, and how it is called in messages.
#[derive(Clone)]
pub(super) struct Place {
    /// Without what it is entered with.
    shown: String,
    pub(super) head: Collection<Head>,
    pub(super) log: Collection<Entry>,
    pub(super) parts: Collection<Part>,
    pub(super) versions: Collection<StoredVersion>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

impl Place {
    /// Reads the URL. Connects to nothing yet.
    pub(super) async fn of(url: &str) -> Result<Self, StoreError> {
        let refused = |error: Error| {
            // The parser repeats what it does not understand, which may be a part of the password.
            let why = if url.contains('@') { String::new() } else { format!(" ({error})") };
            let advice = "with % and two digits in place of what is special in USER and PASSWORD";
            StoreError::Place(format!("it is no URL of the form {URL}, {advice}{why}"))
        };
        let mut options = ClientOptions::parse(url).await.map_err(refused)?;
        options.app_name.get_or_insert_with(|| "mangrove".to_owned());
        options.max_pool_size.get_or_insert(CONNECTIONS);
        options.server_selection_timeout.get_or_insert(SELECTION);
        let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let shown = format!("{}/{name}", hosts.join(","));
        let client = Client::with_options(options).map_err(refused)?;
        Ok(Self::in_database(shown, &client.database_with_options(&name, concerns())))
    }

    fn in_database(shown: String, database: &Database) -> Self {
        Self {
            shown,
            head: database.collection("head"),
            log: database.collection("log"),
            parts: database.collection("parts"),
            versions: database.collection("versions"),
        }
    }

    /// Asks until there is an answer, as long as that makes sense. What is asked for must be safe to repeat.
    pub(super) async fn persist<T, A>(&self, mut ask: impl FnMut() -> A) -> Result<T, StoreError>
    where
        A: IntoFuture<Output = Result<T, Error>>,
    {
        let mut trying = Trying::new();
        loop {
            match self.attempt(ask()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(&mut trying, failure).await?,
            }
        }
    }

    /// Asks once.
    pub(super) async fn attempt<T, A>(&self, asked: A) -> Result<T, Failure>
    where
        A: IntoFuture<Output = Result<T, Error>>,
    {
        match timeout(ATTEMPT, asked.into_future()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::Answered(error)),
            Err(_) => Err(Failure::Silence),
        }
    }

    /// Waits before the next try, longer each time.
    ///
    /// # Errors
    /// When there should be none.
    pub(super) async fn pause(&self, trying: &mut Trying, failure: Failure) -> Result<(), StoreError> {
        if failure.is_hopeless() {
            return Err(StoreError::Backend(failure.into_source()));
        }
        if trying.since.elapsed() > PATIENCE {
            return Err(StoreError::Unreachable { place: self.shown.clone(), source: failure.into_source() });
        }
        if trying.pause == PAUSES[0] {
            tracing::warn!(store = self.shown, error = %failure.into_source(), "the store does not answer; trying again");
        }
        // A store has one writer: there is no crowd whose tries would have to be spread.
        sleep(trying.pause).await;
        trying.pause = (trying.pause * 2).min(PAUSES[1]);
        Ok(())
    }
}

/// How long something has been tried.
#[derive(Debug)]
pub(super) struct Trying {
    since: Instant,
    pause: Duration,
}

impl Trying {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), pause: PAUSES[0] }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Answered(Error),
    Silence,
}

impl Failure {
    fn is_hopeless(&self) -> bool {
        let Self::Answered(error) = self else { return false };
        if let ErrorKind::Command(command) = error.kind.as_ref() {
            return HOPELESS.contains(&command.code);
        }
        matches!(
            error.kind.as_ref(),
            ErrorKind::Authentication { .. }
                | ErrorKind::InvalidArgument { .. }
                | ErrorKind::InvalidTlsConfig { .. }
                | ErrorKind::IncompatibleServer { .. }
                | ErrorKind::BsonSerialization(_)
                | ErrorKind::BsonDeserialization(_)
                | ErrorKind::Bson(_)
        )
    }

    fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Answered(error) => Box::new(error),
            Self::Silence => format!("no answer within {} s", ATTEMPT.as_secs()).into(),
        }
    }
}

/// Whatever the URL says: a commit is on the disks of most servers before it is acknowledged, and only such is read.
fn concerns() -> DatabaseOptions {
    let mut written = WriteConcern::majority();
    written.journal = Some(true);
    DatabaseOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(written)
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named_and_what_it_is_entered_with_is_not() {
        let url = "mongodb://admin:hunter2@db1.example,db2.example:27018/apples?replicaSet=rs0&tls=true";
        let place = Place::of(url).await.expect("a URL");
        let mut trying = Trying::new();
        trying.since -= PATIENCE * 2;
        let error = place.pause(&mut trying, Failure::Silence).await.expect_err("the end of patience");
        assert_eq!(
            error.to_string(),
            "the store at db1.example:27017,db2.example:27018/apples cannot be reached; check that it runs and that \
             this machine reaches it"
        );
        let told = format!("{place:?} {error:?}");
        assert!(!told.contains("hunter2") && !told.contains("admin"), "{told}");
    }

    #[tokio::test]
    async fn what_trying_again_does_not_mend_is_told_at_once() {
        let place = Place::of("mongodb://db.example").await.expect("a URL");
        let refused = ClientOptions::parse("no URL").await.expect_err("refused");
        let hopeless = Failure::Answered(refused);
        let error = place.pause(&mut Trying::new(), hopeless).await.expect_err("hopeless");
        assert!(matches!(error, StoreError::Backend(_)), "{error:?}");
        assert!(place.pause(&mut Trying::new(), Failure::Silence).await.is_ok());
    }
}
