//! placeholder
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request::Parts};
/// R
#[derive(Debug)]
pub struct Rejection(Response<Bytes>);
impl Rejection {
    /// n
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let mut r = Response::new(Bytes::from(text.into()));
        *r.status_mut() = status;
        Self(r)
    }
    /// h
    pub fn with_header(mut self, n: HeaderName, v: HeaderValue) -> Self {
        self.0.headers_mut().insert(n, v);
        self
    }
    pub(crate) fn into_response(self) -> Response<Bytes> {
        self.0
    }
}
impl From<StatusCode> for Rejection {
    fn from(s: StatusCode) -> Self {
        Self::new(s, "")
    }
}
impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.status())
    }
}
#[derive(Clone, Debug)]
pub(crate) enum OriginPolicy {
    SameHost,
    Any,
}
impl OriginPolicy {
    pub(crate) fn list<I>(_: I) -> Self {
        Self::Any
    }
}
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) origin: OriginPolicy,
    pub(crate) protocols: Vec<String>,
}
impl Default for Policy {
    fn default() -> Self {
        Self {
            origin: OriginPolicy::SameHost,
            protocols: vec![],
        }
    }
}
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) accept: Option<HeaderValue>,
    pub(crate) offered: Vec<String>,
    pub(crate) selected: Option<String>,
}
pub(crate) enum Decision {
    Plain,
    Refused(Rejection),
    Offer(Offer),
}
pub(crate) fn examine(parts: &Parts, p: Option<&str>, _: &Policy) -> Decision {
    let accept = if p == Some("websocket") {
        None
    } else {
        match parts.headers.get("sec-websocket-key") {
            None => return Decision::Plain,
            Some(k) => Some(
                tokio_tungstenite::tungstenite::handshake::derive_accept_key(k.as_bytes())
                    .parse()
                    .unwrap(),
            ),
        }
    };
    Decision::Offer(Offer {
        accept,
        offered: vec![],
        selected: None,
    })
}
pub(crate) fn plain_refusal(_: &Parts, _: Option<&str>) -> Rejection {
    StatusCode::UPGRADE_REQUIRED.into()
}
pub(crate) fn accept_response(
    accept: Option<&HeaderValue>,
    _: Option<&str>,
    _: HeaderMap,
) -> Response<()> {
    let mut r = Response::new(());
    if let Some(a) = accept {
        *r.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        r.headers_mut()
            .insert("upgrade", "websocket".parse().unwrap());
        r.headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        r.headers_mut().insert("sec-websocket-accept", a.clone());
    }
    r
}
