//! The layer among other people's layers: each of tower-http (`http_layers`) and of tower
//! (`tower_layers`), outside and inside, in pure hyper and in axum's `Router::layer`, over HTTP/1.1
//! and HTTP/2. `at_the_upgrade` shows what some of them see of a WebSocket, and `grpc` puts tonic
//! beside one.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tower::{Layer, Service, ServiceExt};
use tower_websocket::{UpgradeGuardLayer, WebSocketHandler, WebSocketLayer};

use crate::support::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ClientBody = UnsyncBoxBody<Bytes, tonic::Status>;
type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// A case for each layer and each side, one layer a line: `LAYER;`, or `LAYER, outside: EFFECT,
/// inside: EFFECT;` where the effect is not [`WORKS`]. The first words say where: in `hyper`, and
/// in `axum`, either as it is or with the `errors_handled`, since axum takes no service that can
/// fail.
macro_rules! each_layer {
    (hyper: $($layer:expr $(, outside: $outside:expr)? $(, inside: $inside:expr)?;)*) => {
        vec![$(
            Case {
                what: concat!(stringify!($layer), " outside, in hyper"),
                service: erase($layer.layer(websocket().layer(Plain))),
                effect: effect!($($outside)?),
            },
            Case {
                what: concat!(stringify!($layer), " inside, in hyper"),
                service: erase(websocket().layer($layer.layer(Plain))),
                effect: effect!($($inside)?),
            },
        )*]
    };
    (axum: $($layer:expr $(, outside: $outside:expr)? $(, inside: $inside:expr)?;)*) => {
        vec![$(
            Case {
                what: concat!(stringify!($layer), " outside, in axum"),
                service: erase(router().layer(websocket()).layer($layer)),
                effect: effect!($($outside)?),
            },
            Case {
                what: concat!(stringify!($layer), " inside, in axum"),
                service: erase(router().layer($layer).layer(websocket())),
                effect: effect!($($inside)?),
            },
        )*]
    };
    (axum, errors_handled: $($layer:expr;)*) => {
        each_layer! { axum: $((HandleErrorLayer::new(failed), $layer);)* }
    };
}

macro_rules! effect {
    () => {
        WORKS
    };
    ($effect:expr) => {
        $effect
    };
}

// The modules come behind the macros that they use.
mod at_the_upgrade;
mod grpc;
mod http_layers;
mod tower_layers;

async fn failed<E>(_: E) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// What a client sees of a stack.
#[derive(Clone, Copy, Debug)]
struct Effect {
    /// The answer to a handshake over HTTP/1.1 and over HTTP/2: 101 and 200 open a WebSocket.
    websocket: [u16; 2],
    /// The answer to a plain request beside it.
    plain: u16,
}

const WORKS: Effect = Effect {
    websocket: [101, 200],
    plain: 200,
};

/// Heartbeats are off, so that a test can let an hour pass.
fn websocket() -> WebSocketLayer<Recorder> {
    quiet(Recorder::default())
}

fn quiet<H: WebSocketHandler>(handler: H) -> WebSocketLayer<H> {
    WebSocketLayer::new("/ws", handler).heartbeat(None)
}

/// The inner service: takes whatever body a layer makes of the request's.
#[derive(Clone)]
struct Plain;

/// Long enough to be compressed.
const ANSWER: &str = "inner, and some more words, since nobody compresses a body of a few bytes";

impl<B> Service<Request<B>> for Plain {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::from(ANSWER))))
    }
}

/// The same in axum.
fn router() -> Router {
    Router::new().fallback(async || ANSWER)
}

/// Any stack in one type. There are hundreds, so this is what little code each of them needs: tower's
/// own boxes would make the build of the tests a third longer.
#[derive(Clone)]
struct AnyService(Arc<Mutex<dyn FnMut(Request<Incoming>) -> Answering + Send>>);

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, String>> + Send>>;

fn erase<S, B>(service: S) -> AnyService
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: std::fmt::Display + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    AnyService(Arc::new(Mutex::new(move |request| {
        let answer = service.clone().oneshot(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(error) => Err(error.to_string()),
            }
        }) as Answering
    })))
}

impl Service<Request<Incoming>> for AnyService {
    type Response = Response<AnyBody>;
    type Error = String;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        (self.0.lock().unwrap())(request)
    }
}

struct Case {
    what: &'static str,
    service: AnyService,
    effect: Effect,
}

async fn check_each(cases: Vec<Case>) {
    for case in cases {
        case.check().await;
    }
}

impl Case {
    /// Over both versions, bare and under the guard: the plain request, the WebSocket, and a plain
    /// request while that is open.
    async fn check(self) {
        let guarded = erase(UpgradeGuardLayer::new().layer(self.service.clone()));
        for (service, guard) in [(self.service, "bare"), (guarded, "guarded")] {
            for (version, status) in Version::BOTH.into_iter().zip(self.effect.websocket) {
                let what = format!("{}, {version:?}, {guard}", self.what);
                let mut peer = Peer::connect(version, service.clone()).await;
                assert_eq!(peer.plain().await, self.effect.plain, "{what}");
                let mut socket = match peer.open().await {
                    Ok(socket) => socket,
                    Err(response) => {
                        assert_eq!(response.status(), status, "{what}");
                        continue;
                    }
                };
                assert_eq!(status, version.success(), "{what}: opened");
                echoes(&mut socket, &what).await;
                // Whatever times out has timed out by then.
                tokio::time::sleep(Duration::from_secs(3600)).await;
                echoes(&mut socket, &what).await;
                let mut other = Peer::connect(version, service.clone()).await;
                assert_eq!(other.plain().await, self.effect.plain, "{what}: beside");
                socket.send(&frame(0x88, &[])).await;
                let answer = socket.frame().await.expect(&what);
                assert_eq!(answer.first, 0x88, "{what}");
            }
        }
    }
}

async fn echoes(socket: &mut Client<TokioIo<Upgraded>>, what: &str) {
    socket.send(&text(what)).await;
    let frame = socket.frame().await.expect(what);
    assert_eq!((frame.first, &*frame.payload), (0x81, what.as_bytes()));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    const BOTH: [Self; 2] = [Self::Http1, Self::Http2];

    fn success(self) -> u16 {
        match self {
            Self::Http1 => 101,
            Self::Http2 => 200,
        }
    }
}

/// hyper's client, and hyper's server at the other end of a pipe.
enum Peer {
    Http1(http1::SendRequest<ClientBody>),
    Http2(http2::SendRequest<ClientBody>),
}

impl Peer {
    async fn connect(version: Version, service: AnyService) -> Self {
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(server, service));
        let io = TokioIo::new(client);
        match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection.with_upgrades());
                Self::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        }
    }

    async fn send(&mut self, request: Request<ClientBody>) -> Response<Incoming> {
        match self {
            Self::Http1(sender) => within(sender.send_request(request)).await.unwrap(),
            Self::Http2(sender) => within(sender.send_request(request)).await.unwrap(),
        }
    }

    /// A request with the headers of a browser, and those that the layers of the tables ask for.
    fn request(&self, method: Method, path: &str) -> Request<ClientBody> {
        let uri = match self {
            Self::Http1(_) => path.to_owned(),
            Self::Http2(_) => format!("http://localhost{path}"),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("origin", "http://localhost")
            .header("accept", "*/*")
            .header("accept-encoding", "gzip")
            .header("x-key", "known")
            .body(ClientBody::default())
            .unwrap();
        if let Self::Http1(_) = self {
            let host = http::HeaderValue::from_static("localhost");
            request.headers_mut().insert("host", host);
        }
        request
    }

    /// The status of a plain request whose response arrives in full.
    async fn plain(&mut self) -> u16 {
        let response = self.send(self.request(Method::GET, "/plain")).await;
        let (parts, body) = response.into_parts();
        let body = within(body.collect()).await.unwrap().to_bytes();
        if parts.status == 200 && !parts.headers.contains_key("content-encoding") {
            assert_eq!(body, ANSWER);
        }
        parts.status.as_u16()
    }

    fn handshake(&self) -> Request<ClientBody> {
        let mut request = match self {
            Self::Http1(_) => self.request(Method::GET, "/ws"),
            Self::Http2(_) => self.request(Method::CONNECT, "/ws"),
        };
        let headers = request.headers_mut();
        let mut header = |name, value| headers.insert(name, http::HeaderValue::from_static(value));
        header("sec-websocket-version", "13");
        if let Self::Http1(_) = self {
            header("connection", "upgrade");
            header("upgrade", "websocket");
            header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        } else {
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
        }
        request
    }

    /// A WebSocket, or the response of those who did not want one. Over HTTP/2 a response must
    /// have come before, and the server's settings with it.
    async fn open(&mut self) -> Result<Client<TokioIo<Upgraded>>, Response<Incoming>> {
        let mut response = self.send(self.handshake()).await;
        let opens = match self {
            Self::Http1(_) => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            Self::Http2(_) => response.status().is_success(),
        };
        if !opens {
            return Err(response);
        }
        let upgraded = within(hyper::upgrade::on(&mut response)).await.unwrap();
        Ok(Client::new(TokioIo::new(upgraded)))
    }
}

async fn serve(io: DuplexStream, service: AnyService) {
    let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    let service = TowerToHyperService::new(service);
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(io), service)
        .await;
}
