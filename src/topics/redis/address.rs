//! [`Address`]: where the server is, and who we are there.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use ::redis::{ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// A stream of bytes to the server.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A URL that [`Redis::new`](super::Redis::new) cannot use. It displays what is wrong with it, and never
/// the URL itself, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisUrlError(&'static str);

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RedisUrlError {}

/// See the module docs. Neither `Debug` nor `Display` shows who we are.
#[derive(Clone)]
pub(super) struct Address {
    place: Place,
    login: RedisConnectionInfo,
}

#[derive(Clone)]
enum Place {
    Tcp {
        host: String,
        port: u16,
        is_tls: bool,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let is_tls = matches!(scheme, "rediss" | "valkeys");
        let is_unix = matches!(scheme, "unix" | "redis+unix" | "valkey+unix");
        if !is_tls && !is_unix && !matches!(scheme, "redis" | "valkey") {
            return Err(RedisUrlError(
                "a Redis URL begins with redis://, rediss:// or unix://",
            ));
        }
        if is_tls && cfg!(not(feature = "redis-rustls")) {
            return Err(RedisUrlError(
                "a rediss:// URL needs the feature `redis-rustls` of tower-websocket",
            ));
        }
        // A password with one of these would be cut in two, and the first half taken for a port and shown.
        if rest.contains('#') || !is_unix && rest.contains('?') {
            return Err(RedisUrlError(
                "a Redis URL has neither # nor ?: in a password they are written as %23 and %3F",
            ));
        }
        let plain = match is_tls {
            true => format!("redis://{rest}"),
            false => url.to_owned(),
        };
        let info: ConnectionInfo = plain.parse().map_err(|_| {
            RedisUrlError(
                "not a Redis URL: redis://user:password@host:port/database is one, with the special \
                 characters of a password percent-encoded; all but the host may be missing",
            )
        })?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp {
                host: host.clone(),
                port: *port,
                is_tls,
            },
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(RedisUrlError("a kind of address that is not known here")),
        };
        let login = info.redis_settings().clone();
        Ok(Self {
            place,
            login: login
                .set_protocol(ProtocolVersion::RESP3)
                .set_lib_name("tower-websocket", env!("CARGO_PKG_VERSION")),
        })
    }

    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.place, Place::Tcp { is_tls: true, .. })
    }

    /// Connects, looking the name up anew: after a failover it may lead elsewhere. No attempt takes longer
    /// than its share of `most`, so that an address that does not answer leaves time for the next one.
    pub(super) async fn open(&self, most: Duration) -> io::Result<Box<dyn Io>> {
        match &self.place {
            Place::Tcp { host, port, is_tls } => {
                let addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
                let share = most / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in addresses {
                    match timeout(share, TcpStream::connect(address)).await {
                        Ok(Ok(stream)) => {
                            stream.set_nodelay(true)?;
                            return secured(stream, host, *is_tls).await;
                        }
                        Ok(Err(error)) => last = error,
                        Err(_) => {
                            last = io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
                        }
                    }
                }
                Err(last)
            }
            #[cfg(unix)]
            Place::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        }
    }
}

#[cfg(feature = "redis-rustls")]
async fn secured(stream: TcpStream, host: &str, is_tls: bool) -> io::Result<Box<dyn Io>> {
    use std::sync::Arc;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    if !is_tls {
        return Ok(Box::new(stream));
    }
    // Read anew, since certificates are replaced while a server runs; in a thread that may wait for a disk.
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let mut roots = RootCertStore::empty();
    let found = found.await.map_err(io::Error::other)?;
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        let why = why.unwrap_or_default();
        return Err(io::Error::other(format!(
            "no certificates of authorities are found on this system or where SSL_CERT_FILE points{why}"
        )));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(io::Error::other(format!(
            "TLS: {error} (trusted are the authorities of the system, or those in the file SSL_CERT_FILE)"
        ))),
        Err(error) => Err(io::Error::new(error.kind(), format!("TLS: {error}"))),
    }
}

#[cfg(not(feature = "redis-rustls"))]
#[expect(
    clippy::unused_async,
    reason = "as the one with TLS, which `parse` refuses here"
)]
async fn secured(stream: TcpStream, _: &str, _: bool) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(stream))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, is_tls } => {
                let scheme = if *is_tls { "rediss" } else { "redis" };
                let (open, close) = match host.contains(':') {
                    true => ("[", "]"),
                    false => ("", ""),
                };
                write!(f, "{scheme}://{open}{host}{close}:{port}")?;
            }
            #[cfg(unix)]
            Place::Unix(path) => write!(f, "unix://{}", path.display())?,
        }
        match self.login.db() {
            0 => Ok(()),
            database => write!(f, ", database {database}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Address::parse(url).map_or_else(|error| error.to_string(), |a| a.to_string())
    }

    #[test]
    fn an_address_shows_the_place_and_never_who_we_are() {
        for (url, expected) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("valkey://h:1/2", "redis://h:1, database 2"),
            ("redis://:secret@10.0.0.1:6380", "redis://10.0.0.1:6380"),
            (
                "redis://user:secret@[::1]/3",
                "redis://[::1]:6379, database 3",
            ),
            #[cfg(feature = "redis-rustls")]
            ("rediss://user:secret@h", "rediss://h:6379"),
            #[cfg(unix)]
            (
                "unix:///run/redis.sock?pass=secret&db=1",
                "unix:///run/redis.sock, database 1",
            ),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
        let info = Address::parse("redis://us%40er:p%23%3A%2F@h").unwrap();
        assert_eq!(info.login().username(), Some("us@er"));
        assert_eq!(info.login().password(), Some("p#:/"));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_explained_without_being_quoted() {
        for url in [
            "",
            "secret",
            "localhost:6379",
            "http://user:secret@h",
            "redis://",
            "redis://user:secret@",
            // Characters that a password must not have.
            "redis://user:12#secret@h",
            "redis://user:12?secret@h",
            "redis://user:12/secret@h",
            "redis://user:secret@h:port",
            "redis://user:secret@h/db",
            "redis://0.0.0.0",
        ] {
            let error = Address::parse(url).err().unwrap_or_else(|| panic!("{url}"));
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret"), "{text}");
            assert!(text.contains("Redis URL"), "{text}");
        }
    }
}
