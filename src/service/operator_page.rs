//! [`OperatorPage`]: the live connections as a page and as JSON, and two buttons.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use serde::Serialize;
use tokio::runtime::Handle;
use tower::Service;

use super::body::ResponseBody;
use crate::close::CloseCode;
use crate::error::CloseError;
use crate::handshake::{Head, OriginPolicy, RefusalBody, Rejection};
use crate::operator::{ConnectionSnapshot, Connections, LiveConnection};
use crate::spawn::spawn;
use crate::topics::{Status, TopicSize, Topics, TopicsOverview};

/// A page for those who are on call: a table of the live connections with search and sort, a button that
/// closes one, and one that drains the server; with [`topics`](Self::topics), those too. Needs the feature
/// `json`.
///
/// It is a service for one path, of any router. It can only be made with a guard, or with
/// [`without_guard`](Self::without_guard) where a layer of the application stands in front of it: **who
/// sees the page can end all connections.**
///
/// ```
/// use axum::Router;
/// use http::{HeaderValue, StatusCode, header, request::Parts};
/// use tower_websocket::{OperatorPage, Rejection, WebSocketHandler, WebSocketLayer};
/// # #[derive(Clone)] struct Chat;
/// # impl WebSocketHandler for Chat {}
///
/// fn operators_only(request: &Parts) -> Result<(), Rejection> {
///     // `operator:secret`, from wherever the application has its secrets.
///     let expected = "Basic b3BlcmF0b3I6c2VjcmV0";
///     match request.headers.get(header::AUTHORIZATION) {
///         Some(value) if value == expected => Ok(()),
///         _ => Err(Rejection::from(StatusCode::UNAUTHORIZED)
///             .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"))),
///     }
/// }
///
/// let layer = WebSocketLayer::new("/chat", Chat);
/// let page = OperatorPage::new(&layer.connections(), operators_only);
/// let app = Router::<()>::new().route_service("/operator", page).layer(layer);
/// # drop(app);
/// ```
///
/// # What it answers
///
/// | request | answer |
/// |---|---|
/// | `GET` | the page: HTML without assets, readable on a phone, light and dark |
/// | `GET ?connections&search=…&sort=…&limit=…` | JSON: `count`, `draining`, `matching`, and the first `connections` as [`ConnectionSnapshot`](crate::ConnectionSnapshot)s, at most 1,000, by default 200; `topics` as [`TopicsOverview`](crate::TopicsOverview), with the 20 largest and the [`status`](crate::Status): `local`, `up`, or `degraded` with `since_ms`, `cut_off`, `waiting`, `lost` and `reason` |
/// | `POST ?close=ID&code=…` | closes that one, by default with 1012, which asks it to come back: 204, or 404 |
/// | `POST ?drain=SECONDS` | begins a [drain](crate::Shutdown::drain) of at most an hour: 202, or 409 if one has begun |
///
/// `sort` is one of `id`, `age`, `idle`, `received`, `sent`, `queued`, `dropped`, `subscriptions` and
/// `round_trip`, the largest first. `search` is looked for in the id, mount, path, addresses, subprotocol
/// and up to 128 topics, in any case.
///
/// A POST from a page of another origin gets 403, by its `Origin` and `Sec-Fetch-Site`. No other page may
/// frame this one, and nothing of it is cached. What an operator does is logged at INFO.
#[derive(Clone)]
pub struct OperatorPage {
    connections: Connections,
    topics: Option<Topics>,
    guard: Option<Arc<Guard>>,
}

type Guard = dyn Fn(&Parts) -> Result<(), Rejection> + Send + Sync;

type Answer = Response<ResponseBody<Empty<Bytes>>>;

/// As many rows as somebody looks at.
const ROWS: usize = 200;
/// 300 KB of JSON.
const MOST_ROWS: usize = 1_000;
/// The largest ones.
const TOPICS: usize = 20;
/// As many topics as a connection subscribes by default.
const SEARCHED_TOPICS: usize = 128;
/// A drain from the page has an hour at most.
const LONGEST_DRAIN: u64 = 3_600;

const HTML: &str = include_str!("operator_page.html");

/// Scripts and styles stand in the page, and no text of a peer does: that comes as JSON, and is shown
/// as text.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl OperatorPage {
    /// A page for those whom `guard` lets in. It sees every request, and answers the others itself: with
    /// 401 or 403, or with a redirect to a login. It must not wait, and it compares secrets, if that
    /// matters, in constant time.
    pub fn new<G>(connections: &Connections, guard: G) -> Self
    where
        G: Fn(&Parts) -> Result<(), Rejection> + Send + Sync + 'static,
    {
        Self {
            connections: connections.clone(),
            topics: None,
            guard: Some(Arc::new(guard)),
        }
    }

    /// A page for everybody who reaches it: for a router that has a layer in front of it which lets
    /// operators in only, or an address that nobody else reaches.
    pub fn without_guard(connections: &Connections) -> Self {
        Self {
            connections: connections.clone(),
            topics: None,
            guard: None,
        }
    }

    /// Shows the topics as well: whether messages reach other nodes, how many topics and subscriptions
    /// there are, and the largest.
    #[must_use = "it is the page that shows topics"]
    pub fn topics(mut self, topics: &Topics) -> Self {
        self.topics = Some(topics.clone());
        self
    }

    async fn answer(self, parts: Parts) -> Answer {
        if let Some(Err(rejection)) = self.guard.as_ref().map(|guard| guard(&parts)) {
            return rejection.into_response().map(ResponseBody::refusal);
        }
        let query = Query(parts.uri.query().unwrap_or_default());
        match parts.method {
            Method::GET | Method::HEAD if query.get("connections").is_some() => {
                list(&self.connections, self.topics.as_ref(), &query).await
            }
            Method::GET | Method::HEAD => text(StatusCode::OK, "text/html; charset=utf-8", HTML),
            Method::POST if !is_same_origin(&parts) => says(StatusCode::FORBIDDEN),
            Method::POST => {
                if let Some(id) = query.get("close") {
                    close(&self.connections, &id, query.get("code"))
                } else if let Some(seconds) = query.get("drain") {
                    drain(&self.connections, &seconds)
                } else {
                    says(StatusCode::BAD_REQUEST)
                }
            }
            _ => {
                let mut response = says(StatusCode::METHOD_NOT_ALLOWED);
                let methods = HeaderValue::from_static("GET, HEAD, POST");
                response.headers_mut().insert(ALLOW, methods);
                response
            }
        }
    }
}

#[derive(Serialize)]
struct List {
    count: usize,
    draining: bool,
    matching: usize,
    connections: Vec<ConnectionSnapshot>,
    topics: Option<TopicsStatus>,
}

#[derive(Serialize)]
struct TopicsStatus {
    status: &'static str,
    /// For how long it is so, where it is degraded.
    since_ms: Option<u64>,
    waiting: usize,
    lost: u64,
    cut_off: bool,
    reason: String,
    topics: usize,
    subscriptions: usize,
    largest: Vec<TopicSize>,
}

async fn topics_status(topics: &Topics) -> TopicsStatus {
    let mut survey = topics.survey(TOPICS);
    while survey.go_on() {
        tokio::task::yield_now().await;
    }
    let TopicsOverview {
        topics: count,
        subscriptions,
        largest,
    } = survey.end();
    let mut status = TopicsStatus {
        status: "local",
        since_ms: None,
        waiting: 0,
        lost: 0,
        cut_off: false,
        reason: String::new(),
        topics: count,
        subscriptions,
        largest,
    };
    match topics.status() {
        Status::Local => {}
        Status::Up => status.status = "up",
        Status::Degraded {
            since,
            waiting,
            lost,
            cut_off,
            reason,
        } => {
            status.status = "degraded";
            status.since_ms = u64::try_from(since.elapsed().as_millis()).ok();
            (status.waiting, status.lost) = (waiting, lost);
            (status.cut_off, status.reason) = (cut_off, reason);
        }
    }
    status
}

async fn list(connections: &Connections, topics: Option<&Topics>, query: &Query<'_>) -> Answer {
    let limit = query.get("limit").and_then(|limit| limit.parse().ok());
    let limit = limit.unwrap_or(ROWS).min(MOST_ROWS);
    let search = query.get("search").unwrap_or_default().to_lowercase();
    let sort = query.get("sort").unwrap_or_default();
    let (mut rows, mut matching) = (Vec::new(), 0);
    for (i, one) in connections.iter().enumerate() {
        // A million of them must not hold up the other tasks of this thread.
        if i % 1024 == 1023 {
            tokio::task::yield_now().await;
        }
        if search.is_empty() || shows(&one, &search) {
            matching += 1;
            rows.push((weight(&one, &sort), one));
            if rows.len() >= 2 * MOST_ROWS {
                first(&mut rows, limit);
            }
        }
    }
    first(&mut rows, limit);
    let list = List {
        count: connections.count(),
        draining: connections.shutdown().is_draining(),
        matching,
        connections: rows.iter().map(|(_, one)| one.snapshot()).collect(),
        topics: match topics {
            Some(topics) => Some(topics_status(topics).await),
            None => None,
        },
    };
    match serde_json::to_vec(&list) {
        Ok(json) => text(StatusCode::OK, "application/json", json),
        Err(_) => says(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn first(rows: &mut Vec<(u128, LiveConnection)>, limit: usize) {
    rows.sort_by_key(|(weight, one)| (std::cmp::Reverse(*weight), one.id()));
    rows.truncate(limit);
}

fn weight(one: &LiveConnection, sort: &str) -> u128 {
    match sort {
        "age" => one.age().as_nanos(),
        "idle" => one.idle().as_nanos(),
        "received" => one.received().bytes.into(),
        "sent" => one.sent().bytes.into(),
        "queued" => one.queued().bytes() as u128,
        "dropped" => one.dropped().into(),
        "subscriptions" => one.subscriptions() as u128,
        "round_trip" => one.round_trip().unwrap_or_default().as_nanos(),
        _ => one.id().as_u64().into(),
    }
}

fn shows(one: &LiveConnection, search: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(search);
    has(one.mount())
        || has(one.path())
        || one.protocol().is_some_and(has)
        || one.id().to_string() == search
        || one.peer_addr().is_some_and(|peer| has(&peer.to_string()))
        || one
            .client_ip()
            .is_some_and(|client| has(&client.to_string()))
        || one.topics(SEARCHED_TOPICS).iter().any(|topic| has(topic))
}

fn close(connections: &Connections, id: &str, code: Option<String>) -> Answer {
    let code = code.map_or(Ok(CloseCode::SERVICE_RESTART.as_u16()), |code| code.parse());
    let (Ok(id), Ok(code)) = (id.parse::<u64>(), code) else {
        return says(StatusCode::BAD_REQUEST);
    };
    let Some(one) = connections.get_by_number(id) else {
        return says(StatusCode::NOT_FOUND);
    };
    match one.close(CloseCode::from(code), "closed by an operator") {
        Ok(()) => {
            tracing::info!(id, code, "an operator closed a connection");
            text(StatusCode::NO_CONTENT, "text/plain", "")
        }
        Err(CloseError::Closed) => says(StatusCode::NOT_FOUND),
        Err(_) => says(StatusCode::BAD_REQUEST),
    }
}

fn drain(connections: &Connections, seconds: &str) -> Answer {
    let Ok(seconds) = seconds.parse::<u64>() else {
        return says(StatusCode::BAD_REQUEST);
    };
    let shutdown = connections.shutdown();
    if shutdown.is_draining() {
        return says(StatusCode::CONFLICT);
    }
    let seconds = seconds.min(LONGEST_DRAIN);
    tracing::info!(seconds, "an operator drains the server");
    let drain = shutdown.drain(Duration::from_secs(seconds));
    spawn(&Handle::current(), format_args!("websocket drain"), drain);
    says(StatusCode::ACCEPTED)
}

/// A browser says of which page a request is; other clients say nothing.
fn is_same_origin(parts: &Parts) -> bool {
    static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let site = parts.headers.get(&SITE);
    site.is_none_or(|site| site == "same-origin") && OriginPolicy::SameHost.allows(&Head::of(parts))
}

/// A query, as a page writes one.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// The first of that name, decoded.
    fn get(&self, name: &str) -> Option<String> {
        let fields = self
            .0
            .split('&')
            .map(|field| field.split_once('=').unwrap_or((field, "")));
        let mut values = fields
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        values.next().map(decode)
    }
}

fn decode(text: &str) -> String {
    let hex = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (byte, behind) {
            (b'+', _) => b' ',
            (b'%', &[high, low, ref behind @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn says(status: StatusCode) -> Answer {
    let name = status.canonical_reason().unwrap_or_default();
    text(status, "text/plain", name)
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = RefusalBody::text(body.into());
    let mut response = Response::new(ResponseBody::refusal(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl<B> Service<Request<B>> for OperatorPage {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (page, (parts, _)) = (self.clone(), request.into_parts());
        Box::pin(async { Ok(page.answer(parts).await) })
    }
}

impl fmt::Debug for OperatorPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorPage")
            .field("connections", &self.connections)
            .field("topics", &self.topics)
            .field("guarded", &self.guard.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_a_query_is_decoded_and_never_fails() {
        for (text, decoded) in [
            ("a+b%2Fc", "a b/c"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%C3%A9", "%zzé"),
            ("%ff", "\u{fffd}"),
            ("%+1é", "% 1é"),
        ] {
            assert_eq!(decode(text), decoded, "{text}");
        }
        let query = Query("connections&sort=age&sort=id&search=a%26b");
        assert_eq!(query.get("connections").as_deref(), Some(""));
        assert_eq!(query.get("sort").as_deref(), Some("age"));
        assert_eq!(query.get("search").as_deref(), Some("a&b"));
        assert_eq!(query.get("limit"), None);
    }

    #[test]
    fn the_page_loads_nothing_and_writes_no_markup() {
        for word in [
            "src=",
            "href=",
            "innerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!HTML.contains(word), "{word}");
        }
    }
}
