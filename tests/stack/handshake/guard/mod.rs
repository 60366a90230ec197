//! Which responses open a connection: what lies around the layer, crossed with what it does to
//! the response and with how the HTTP connection ends (rows X1, P1, P2, S8).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt};
use tower_http::compression::CompressionLayer;
use tower_http::decompression::DecompressionLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::timeout::ResponseBodyTimeoutLayer;

use tower_websocket::UpgradeGuardLayer;

use crate::support::*;

mod cases;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type AnyService = BoxCloneService<Request<Incoming>, Response<AnyBody>, Infallible>;

/// A body of somebody else's that forwards what it must and nothing more.
struct Wrapped<B>(B);

impl<B: Body + Unpin> Body for Wrapped<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// One that tells its size too, as those do that add a script to pages.
struct Sized<B>(B);

impl<B: Body + Unpin> Body for Sized<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A body that is read in a task of its own, as by layers that write it down too.
struct Pumped(tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl Pumped {
    fn new(mut body: AnyBody) -> Self {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let _ = sender.send(frame).await;
            }
        });
        Self(receiver)
    }
}

impl Body for Pumped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// A service whose response went through `change`, with whatever body it has.
fn boxed<S, B, F, Fut>(service: S, change: F) -> AnyService
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    F: Fn(Response<AnyBody>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<AnyBody>> + Send + 'static,
{
    let service = service.then(move |response: Result<Response<B>, Infallible>| {
        let Ok(response) = response;
        let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
        let changed = change(response);
        async move { Ok::<_, Infallible>(changed.await) }
    });
    BoxCloneService::new(service)
}

async fn same(response: Response<AnyBody>) -> Response<AnyBody> {
    response
}

fn text_body(text: &'static str) -> AnyBody {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Reads the body and puts it back.
async fn collected(response: Response<AnyBody>) -> Response<AnyBody> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = Full::from(bytes).map_err(|never| match never {});
    Response::from_parts(parts, body.boxed_unsync())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Around {
    Nothing,
    Wrapped,
    Sized,
    Mapped,
    Timeout,
    Decompression,
    Compression,
    Collected,
    CollectedIfSmall,
    AskedAndCollected,
    Pumped,
}

impl Around {
    const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Wrapped,
        Self::Sized,
        Self::Mapped,
        Self::Timeout,
        Self::Decompression,
        Self::Compression,
        Self::Collected,
        Self::CollectedIfSmall,
        Self::AskedAndCollected,
        Self::Pumped,
    ];

    /// Whether the body is passed on with all that a server asks of it.
    fn forwards(self) -> bool {
        matches!(self, Self::Nothing | Self::Compression)
    }

    /// Whether it reads the body, which then cannot tell who reads it later.
    fn reads(self) -> bool {
        matches!(
            self,
            Self::Collected | Self::CollectedIfSmall | Self::AskedAndCollected | Self::Pumped
        )
    }

    fn layer(self, service: AnyService) -> AnyService {
        match self {
            Self::Nothing => service,
            Self::Wrapped => boxed(service, async |r: Response<AnyBody>| {
                r.map(|body| Wrapped(body).boxed_unsync())
            }),
            Self::Sized => boxed(service, async |r: Response<AnyBody>| {
                r.map(|body| Sized(body).boxed_unsync())
            }),
            Self::Mapped => boxed(MapResponseBodyLayer::new(Wrapped).layer(service), same),
            Self::Timeout => {
                let layer = ResponseBodyTimeoutLayer::new(Duration::from_secs(1));
                boxed(layer.layer(service), same)
            }
            Self::Decompression => boxed(DecompressionLayer::new().layer(service), same),
            Self::Compression => boxed(CompressionLayer::new().layer(service), same),
            Self::Collected => boxed(service, collected),
            Self::CollectedIfSmall => boxed(service, async |r: Response<AnyBody>| {
                match r.body().size_hint().upper() {
                    Some(..64) => collected(r).await,
                    _ => r,
                }
            }),
            Self::Pumped => boxed(service, async |r: Response<AnyBody>| {
                r.map(|body| Pumped::new(body).boxed_unsync())
            }),
            Self::AskedAndCollected => boxed(service, async |r: Response<AnyBody>| {
                if r.body().is_end_stream() {
                    return r;
                }
                collected(r).await
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    None,
    /// The status was changed in place.
    Status(u16),
    Replaced,
    /// Replaced, and the original is dropped when the new one is long out.
    KeptForLater,
}

impl Change {
    const ALL: [Self; 6] = [
        Self::None,
        Self::Status(403),
        Self::Status(204),
        Self::Status(304),
        Self::Replaced,
        Self::KeptForLater,
    ];

    fn status(self) -> u16 {
        match self {
            Self::None => 101,
            Self::Status(status) => status,
            Self::Replaced | Self::KeptForLater => 403,
        }
    }

    fn layer(self, service: AnyService) -> AnyService {
        boxed(service, move |response| self.apply(response))
    }

    async fn apply(self, mut response: Response<AnyBody>) -> Response<AnyBody> {
        match self {
            Self::None => return response,
            Self::Status(status) => {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                return response;
            }
            Self::Replaced => drop(response),
            Self::KeptForLater => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    drop(response);
                });
            }
        }
        let mut response = Response::new(text_body("no"));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    }
}

/// How the HTTP connection ends, in the client's hands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// The handshake says `Connection: close`.
    Close,
    /// A second request says it, behind the handshake.
    Pipelined,
    /// A second request says it, when the response is there.
    Later,
    /// The client sends no more, and reads on.
    HalfClose,
    /// The response that was changed says it.
    Server,
}

impl Ending {
    const ALL: [Self; 5] = [
        Self::Close,
        Self::Pipelined,
        Self::Later,
        Self::HalfClose,
        Self::Server,
    ];
}

fn guarded(service: AnyService) -> AnyService {
    boxed(UpgradeGuardLayer::new().layer(service), same)
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    around: Around,
    change: Change,
    /// The change is made outside of what is around, or else inside.
    #[expect(dead_code, reason = "shown where a test fails")]
    outside: bool,
    ending: Ending,
}

/// Every way in which a response can be wrapped and changed, and its client go on.
async fn for_each_refusal(test: impl AsyncFn(AnyService, &Stack<Recorder>, &Recorder, Refusal)) {
    for around in Around::ALL {
        for change in Change::ALL {
            for (outside, ending) in Ending::ALL
                .into_iter()
                .flat_map(|e| [(true, e), (false, e)])
            {
                let what = Refusal {
                    around,
                    change,
                    outside,
                    ending,
                };
                if change == Change::None {
                    continue;
                }
                let (stack, recorder) = Stack::recorded();
                let service = boxed(stack.layer.clone().layer(plain()), same);
                let service = if outside {
                    change.layer(around.layer(service))
                } else {
                    around.layer(change.layer(service))
                };
                let service = match ending {
                    Ending::Server => boxed(service, async |mut r: Response<AnyBody>| {
                        r.headers_mut()
                            .insert("connection", HeaderValue::from_static("close"));
                        r
                    }),
                    _ => service,
                };
                test(service, &stack, &recorder, what).await;
            }
        }
    }
}

const SECOND: &str = "GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn handshake_with(connection: &str) -> String {
    HANDSHAKE
        .replace("Connection: Upgrade", connection)
        .replace("\r\n\r\n", "\r\nAccept-Encoding: gzip\r\n\r\n")
}

/// The handshake of a client in good faith: opens, and the messages come back.
async fn opens(service: AnyService, handshake: &str, what: &str) {
    let mut client = http1(service);
    client.send(handshake.as_bytes()).await;
    let head = client.head().await;
    assert_eq!(head.status(), 101, "{what}: {head:?}");
    // Where the client asked for it, hyper adds `close`.
    let connection = head.header("connection").unwrap();
    assert!(connection.starts_with("Upgrade"), "{head:?}");
    client.send(&text(what)).await;
    let frame = client
        .frame()
        .await
        .unwrap_or_else(|| panic!("{what}: the end"));
    assert_eq!(frame.payload, what.as_bytes());
    client.send(&frame_close()).await;
    client.expect_close(None).await;
}

fn frame_close() -> Vec<u8> {
    frame(0x88, &[])
}

/// A client that was refused ends HTTP on its connection and sends frames. Returns what the
/// handler saw.
async fn refused(
    service: AnyService,
    stack: &Stack<Recorder>,
    recorder: &Recorder,
    status: u16,
    ending: Ending,
) -> Vec<String> {
    let mut client = http1(service);
    let mut bytes = match ending {
        Ending::Close => handshake_with("Connection: Upgrade, close"),
        _ => handshake_with("Connection: Upgrade"),
    };
    if ending == Ending::Pipelined {
        bytes.push_str(SECOND);
    }
    client.send(bytes.as_bytes()).await;
    assert_eq!(client.head().await.status(), status);
    match ending {
        Ending::Later => client.try_send(SECOND.as_bytes()).await,
        Ending::HalfClose => client.io.shutdown().await.unwrap(),
        _ => {}
    }
    if ending != Ending::HalfClose {
        client.try_send(&text("let me in")).await;
    }
    client.end().await;
    left(&stack.shutdown, 0).await;
    recorder.log()
}
