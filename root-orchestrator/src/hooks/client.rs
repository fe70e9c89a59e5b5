//! One POST to an address that a user has chosen. Names are looked up once, here; the connection goes to an address that was
//! judged, so a name that leads elsewhere a moment later leads nowhere. Redirects are not followed.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use root_core::{Reach, Unreachable};
use rustls::{
    ClientConfig,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::time::timeout;
use url::{Host, Url};

use super::HooksConfig;
use crate::outward::{ExchangeError, Outward, Target, exchange};

const LONGEST_MILLIS: u64 = 60_000;

pub(super) type Headers = Vec<(&'static str, String)>;

/// Why a POST was not taken; kept with the hook for its users to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("its URL cannot be used: {0}")]
    Url(String),
    #[error("its secret cannot be opened: it was changed in the store; give it another")]
    NoSecret,
    #[error("the name `{name}` cannot be looked up: {error}")]
    Name { name: String, error: io::Error },
    #[error("the name `{0}` leads nowhere")]
    NoAddress(String),
    #[error("refused: {0}")]
    Refused(#[from] Unreachable),
    #[error("{address} cannot be reached: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("no encrypted connection to {address}: {error}")]
    Tls { address: SocketAddr, error: io::Error },
    #[error("the connection failed: {0}")]
    Connection(hyper::Error),
    #[error("the receiver answered {0}, and redirects are not followed; give the hook the URL it leads to")]
    Redirect(StatusCode),
    #[error("the receiver answered {0}; a delivery is taken by an answer from 200 to 299")]
    Status(StatusCode),
    #[error("the receiver did not answer within {0} ms")]
    Timeout(u128),
}

/// What calls receivers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    reach: Arc<Reach>,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?}, {:?})", self.reach, self.timeout)
    }
}

impl Client {
    /// Reads the authorities that receivers are trusted by.
    ///
    /// # Errors
    /// When a file is given and is of no use, or a time that is none.
    pub(crate) fn new(config: &HooksConfig) -> anyhow::Result<Self> {
        let millis = config.hook_timeout.as_millis();
        if !(1..=LONGEST_MILLIS).contains(&millis) {
            bail!("--hook-timeout must be from 1ms to 1m, not {}", config.hook_timeout);
        }
        let outward = Outward::trusting(config.hook_ca_file.as_deref()).context("use --hook-ca-file")?;
        if !outward.has_authorities {
            tracing::info!("this system trusts no authorities: hooks at https need --hook-ca-file");
        }
        Ok(Self {
            tls: outward.tls,
            reach: Arc::new(Reach::new(config.hook_allow.clone())),
            timeout: Duration::from_millis(millis),
        })
    }

    /// Whether a URL may be called, as far as that is known without looking up its name.
    ///
    /// # Errors
    /// When its host is an address that is not called.
    pub(crate) fn judge(&self, url: &Url) -> Result<(), Unreachable> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.reach.judge(address.into(), is_own),
            Some(Host::Ipv6(address)) => self.reach.judge(address.into(), is_own),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Posts a JSON document; it is taken when the receiver says so in time.
    pub(super) async fn post(&self, url: &str, headers: Headers, body: Bytes) -> Result<(), PostError> {
        let url = parse_url(url).map_err(PostError::Url)?;
        let posted = timeout(self.timeout, self.post_to(&url, headers, body)).await;
        let status = posted.map_err(|_| PostError::Timeout(self.timeout.as_millis()))??;
        if status.is_success() {
            return Ok(());
        }
        Err(if status.is_redirection() { PostError::Redirect(status) } else { PostError::Status(status) })
    }

    async fn post_to(&self, url: &Url, headers: Headers, body: Bytes) -> Result<StatusCode, PostError> {
        let address = self.look_up(url).await?;
        let name = match url.scheme() {
            "http" => None,
            _ => Some(server_name(url).map_err(|error| PostError::Url(error.to_string()))?),
        };
        let to = Target { address, name };
        let answered = exchange(&self.tls, to, request(url, headers, body)?).await;
        // Of the answer only the status is read.
        answered.map(|answered| answered.response.status()).map_err(|error| match error {
            ExchangeError::Connect(error) => PostError::Connect { address, error },
            ExchangeError::Tls(error) => PostError::Tls { address, error },
            ExchangeError::Http(error) => PostError::Connection(error),
        })
    }

    /// The address to connect to: the first that may be called.
    async fn look_up(&self, url: &Url) -> Result<SocketAddr, PostError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let found = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port)).await;
                found.map_err(|error| PostError::Name { name: name.to_owned(), error })?.collect()
            }
            None => Vec::new(),
        };
        let mut refused = None;
        for address in found {
            match self.reach.judge(address.ip(), is_own) {
                Ok(()) => return Ok(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(match refused {
            Some(refused) => refused.into(),
            None => PostError::NoAddress(url.host_str().unwrap_or_default().to_owned()),
        })
    }
}

/// Reads the URL of a hook as it will be called.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("it is no URL ({error}), such as https://hooks.example/told"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("it must begin with http:// or https://, and not {}:", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must hold no user and no password, which everybody who may look at hooks would see; deliveries are \
                    signed with `secret`"
            .to_owned());
    }
    if url.fragment().is_some() {
        return Err("what follows `#` is never sent; leave it out".to_owned());
    }
    if url.port() == Some(0) {
        return Err("nobody can be reached at port 0".to_owned());
    }
    Ok(url)
}

fn request(url: &Url, headers: Headers, body: Bytes) -> Result<Request<Full<Bytes>>, PostError> {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("mangrove/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(Full::new(body)).map_err(|error| PostError::Url(error.to_string()))
}

fn server_name(url: &Url) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(IpAddr::from(address).into()),
        Some(Host::Ipv6(address)) => Ok(IpAddr::from(address).into()),
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()),
        None => ServerName::try_from(String::new()),
    }
}

/// Whether an address is of this device: only those can be bound.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_it_will_be_called() {
        let client = Client::new(&HooksConfig::default()).expect("usable");
        let host = |text: &str| parse_url(text).expect("a URL").host_str().map(str::to_owned);
        assert_eq!(host("http://hooks.example:8080/told?by=mangrove").as_deref(), Some("hooks.example"));
        // Many ways to write one address.
        for loopback in
            ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "https://[::ffff:127.0.0.1]/"]
        {
            let url = parse_url(loopback).expect("a URL");
            assert!(client.judge(&url).is_err(), "{loopback}");
        }
        for (wrong, why) in [
            ("hooks.example", "no URL"),
            ("ftp://hooks.example", "must begin with"),
            ("file:///etc/passwd", "must begin with"),
            ("http://", "no URL"),
            ("https://user:password@hooks.example/", "no user and no password"),
            ("https://hooks.example/#part", "never sent"),
            ("https://hooks.example:0/", "port 0"),
        ] {
            let error = parse_url(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_name_that_leads_to_the_root_itself_is_refused() {
        let client = Client::new(&HooksConfig::default()).expect("usable");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = parse_url("http://localhost:1/").expect("a URL");
        let refused = runtime.block_on(client.look_up(&url)).expect_err("it leads to loopback");
        assert!(matches!(refused, PostError::Refused(Unreachable::NotPublic(_))), "{refused}");
    }

    #[test]
    fn addresses_of_this_device_are_known() {
        assert!(is_own(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_own(IpAddr::from([192, 0, 2, 1])));
    }
}
