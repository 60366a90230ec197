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

use tower_websocket::{UpgradeGuardLayer, WebSocketLayer};

use crate::http2;
use crate::support::*;

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
    assert_eq!(head.status, 101, "{what}: {}", head.text);
    // Where the client asked for it, hyper adds `close`.
    let connection = head.header("connection").unwrap();
    assert!(connection.starts_with("Upgrade"), "{}", head.text);
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
    assert_eq!(client.head().await.status, status);
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

#[tokio::test(start_paused = true)]
async fn p1_a_101_opens_whatever_wraps_or_reads_its_body() {
    for around in Around::ALL {
        let (stack, _) = Stack::recorded();
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        opens(
            service,
            &handshake_with("Connection: Upgrade"),
            &format!("{around:?}"),
        )
        .await;
        left(&stack.shutdown, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_a_101_opens_on_several_threads() {
    let (stack, _) = Stack::recorded();
    for around in Around::ALL {
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let addr = tcp(service).await;
        let clients: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = Client::tcp(addr).await;
                    client.handshake().await;
                    client.send(&text("each")).await;
                    let frame = client.frame().await;
                    assert!(frame.is_some(), "{around:?}");
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p2_a_handshake_that_says_close_opens_where_the_body_is_forwarded() {
    for connection in [
        "Connection: close, Upgrade",
        "Connection: Upgrade, close",
        "Connection: Close,upgrade",
        "Connection: close\r\nConnection: Upgrade",
        "Connection: Upgrade\r\nConnection: close",
    ] {
        for around in Around::ALL.into_iter().filter(|around| around.forwards()) {
            let (stack, _) = Stack::recorded();
            let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
            opens(
                service,
                &handshake_with(connection),
                &format!("{around:?} {connection}"),
            )
            .await;
            left(&stack.shutdown, 0).await;
        }
    }
}

/// With the guard: every combination.
#[tokio::test(start_paused = true)]
async fn x1_p1_p2_s8_under_the_guard_what_was_sent_opens_and_nothing_else() {
    for around in Around::ALL {
        for connection in ["Connection: Upgrade", "Connection: close, Upgrade"] {
            let what = format!("{around:?} {connection}");
            let (stack, _) = Stack::recorded();
            let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
            opens(guarded(service), &handshake_with(connection), &what).await;
            left(&stack.shutdown, 0).await;
        }
    }
    for_each_refusal(async |service, stack, recorder, what| {
        let Refusal { change, ending, .. } = what;
        let log = refused(guarded(service), stack, recorder, change.status(), ending).await;
        assert!(log.is_empty(), "{what:?}: {log:?}");
    })
    .await;
}

/// Without the guard: what is known from inside, in all combinations but those that the
/// documentation of the guard lists.
#[tokio::test(start_paused = true)]
async fn x1_p1_s8_a_response_that_was_changed_or_replaced_opens_nothing() {
    for_each_refusal(async |service, stack, recorder, what| {
        let Refusal {
            around,
            change,
            ending,
            ..
        } = what;
        let unknown = match ending {
            // To the body, a 204 or 304 over a connection that ends with it is a 101.
            Ending::Close => around.forwards() && matches!(change, Change::Status(204 | 304)),
            // Nobody but the server knows what it sent when it ends the connection.
            Ending::Server => change != Change::Status(403) || around.reads(),
            _ => false,
        };
        if unknown {
            return;
        }
        let log = refused(service, stack, recorder, change.status(), ending).await;
        assert!(log.is_empty(), "{what:?}: {log:?}");
    })
    .await;
}

/// Where the body tells nothing and the connection ends with this response, nothing tells.
#[tokio::test(start_paused = true)]
async fn p2_a_handshake_that_says_close_opens_nothing_where_nothing_tells_what_was_sent() {
    for around in Around::ALL.into_iter().filter(|around| !around.forwards()) {
        let (stack, recorder) = Stack::recorded();
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let log = refused(service, &stack, &recorder, 101, Ending::Close).await;
        assert!(log.is_empty(), "{around:?}: {log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p1_under_two_guards_the_outer_one_decides() {
    let (stack, recorder) = Stack::recorded();
    let service = guarded(boxed(stack.layer.clone().layer(plain()), same));
    let service = Around::Timeout.layer(service);
    opens(guarded(service.clone()), HANDSHAKE, "both").await;
    let seen = recorder.log().len();
    let service = guarded(Change::Status(204).layer(service));
    let log = refused(service, &stack, &recorder, 204, Ending::Close).await;
    assert_eq!(log.len(), seen, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn p1_a_response_that_never_leaves_the_guard_opens_nothing() {
    let (stack, recorder) = Stack::recorded();
    let service = boxed(stack.layer.clone().layer(plain()), async |response| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        response
    });
    let mut client = http1(guarded(service));
    client.send(HANDSHAKE.as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stack.shutdown.connections(), 1);
    drop(client);
    left(&stack.shutdown, 0).await;
    assert!(recorder.log().is_empty());
}

/// hyper does not give a connection back whose response is still to be written.
#[tokio::test(start_paused = true)]
async fn p1_a_refused_connection_that_stays_in_http_is_given_up_with_the_upgrade_timeout() {
    for around in [Around::Nothing, Around::Wrapped] {
        let (stack, recorder) = Stack::recorded();
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let mut client = http1(Change::Replaced.layer(service));
        client.send(HANDSHAKE.as_bytes()).await;
        assert_eq!(client.response().await.0.status, 403);
        let begin = tokio::time::Instant::now();
        left(&stack.shutdown, 0).await;
        assert!(begin.elapsed() <= Duration::from_millis(10_010));
        assert!(recorder.log().is_empty());
    }
}

/// One task may drive many connections. A request of one says nothing about another.
#[tokio::test(start_paused = true)]
async fn p1_connections_that_share_a_task_do_not_refuse_each_other() {
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;
    let (stack, _) = Stack::recorded();
    let service = Around::Wrapped.layer(boxed(stack.layer.clone().layer(plain()), same));
    let (mut clients, servers): (Vec<_>, FuturesUnordered<_>) = (0..20)
        .map(|_| {
            let (client, server) = tokio::io::duplex(16 * 1024);
            (Client::new(client), serve_http1(server, service.clone()))
        })
        .unzip();
    tokio::spawn(servers.collect::<()>());
    for client in &mut clients {
        client.send(HANDSHAKE.as_bytes()).await;
    }
    for client in &mut clients {
        assert_eq!(client.head().await.status, 101);
        client.send(&text("each")).await;
        client.expect(0x81, b"each").await;
    }
}

/// `tower::buffer` and its like call the service in a task of their own.
#[tokio::test(start_paused = true)]
async fn p1_a_service_in_a_task_of_its_own_opens() {
    let (stack, _) = Stack::recorded();
    for around in [Around::Nothing, Around::Wrapped] {
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let (service, worker) = tower::buffer::Buffer::pair(service, 8);
        tokio::spawn(worker);
        let service = tower::service_fn(move |request| {
            let mut service = service.clone();
            async move {
                Ok::<_, Infallible>(service.ready().await.unwrap().call(request).await.unwrap())
            }
        });
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(http1(service.clone()));
        }
        for client in &mut clients {
            client.send(HANDSHAKE.as_bytes()).await;
        }
        for client in &mut clients {
            assert_eq!(client.head().await.status, 101);
            client.send(&text("each")).await;
            client.expect(0x81, b"each").await;
        }
    }
}

/// A task that answers the requests of all connections. What it serves says nothing about one of
/// them.
#[tokio::test(start_paused = true)]
async fn p1_requests_that_one_task_answers_for_all_connections_do_not_refuse_each_other() {
    use tokio::sync::{mpsc, oneshot};
    type Job = (Request<Incoming>, oneshot::Sender<Response<AnyBody>>);
    let (stack, _) = Stack::recorded();
    for around in Around::ALL {
        let mut service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let (jobs, mut queue) = mpsc::channel::<Job>(32);
        tokio::spawn(async move {
            while let Some((request, answer)) = queue.recv().await {
                let Ok(response) = service.ready().await.unwrap().call(request).await;
                let _ = answer.send(response);
            }
        });
        let service = tower::service_fn(move |request| {
            let jobs = jobs.clone();
            async move {
                let (answer, response) = oneshot::channel();
                jobs.send((request, answer)).await.unwrap();
                Ok::<_, Infallible>(response.await.unwrap())
            }
        });
        let service = boxed(service, same);
        let service = if around.forwards() {
            service
        } else {
            guarded(service)
        };
        let mut clients: Vec<_> = (0..20).map(|_| http1(service.clone())).collect();
        for client in &mut clients {
            client.send(HANDSHAKE.as_bytes()).await;
        }
        for client in &mut clients {
            assert_eq!(client.head().await.status, 101);
            client.send(&text("each")).await;
            let frame = client.frame().await;
            assert!(frame.is_some(), "{around:?}");
        }
    }
}

/// What arrives right behind the handshake is not lost by looking for it.
#[tokio::test(start_paused = true)]
async fn p1_frames_that_come_with_the_handshake_are_all_read() {
    let stream = WebSocketLayer::stream("/ws", |mut socket, _| async move {
        use futures_util::{SinkExt, StreamExt};
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await?;
            }
        }
        Ok(())
    });
    let (stack, _) = Stack::recorded();
    for service in [
        boxed(stack.layer.clone().layer(plain()), same),
        boxed(stream.layer(plain()), same),
    ] {
        for pieces in [1, 2, 7] {
            let mut client = http1(Around::Wrapped.layer(service.clone()));
            let mut bytes = HANDSHAKE.as_bytes().to_vec();
            let at = bytes.len();
            bytes.extend(text("one"));
            bytes.extend(text("two"));
            client.send(&bytes[..at + pieces]).await;
            assert_eq!(client.head().await.status, 101);
            client.send(&bytes[at + pieces..]).await;
            client.expect(0x81, b"one").await;
            client.expect(0x81, b"two").await;
        }
    }
}

#[tokio::test]
async fn p1_axum_with_the_guard_as_its_last_layer() {
    use axum::Router;
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use axum::response::{IntoResponse, Response};

    /// The example print-request-response of axum.
    async fn print(request: Request, next: Next) -> Response {
        let (parts, body) = next.run(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Response::from_parts(parts, axum::body::Body::from(bytes))
    }
    async fn refuse(request: Request, next: Next) -> Response {
        drop(next.run(request).await);
        (StatusCode::NO_CONTENT, [("connection", "close")]).into_response()
    }
    for refused in [false, true] {
        let (stack, recorder) = Stack::recorded();
        let app = Router::new()
            .route("/", axum::routing::get(async || "index"))
            .layer(stack.layer.clone())
            .layer(ResponseBodyTimeoutLayer::new(Duration::from_secs(1)))
            .layer(from_fn(print));
        let app = if refused {
            app.layer(from_fn(refuse))
        } else {
            app
        };
        let app = app.layer(UpgradeGuardLayer::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, app).into_future());
        let mut client = Client::tcp(addr).await;
        client
            .send(handshake_with("Connection: close, Upgrade").as_bytes())
            .await;
        if refused {
            assert_eq!(client.head().await.status, 204);
            client.try_send(&text("let me in")).await;
            client.end().await;
            left(&stack.shutdown, 0).await;
            assert!(recorder.log().is_empty());
        } else {
            assert_eq!(client.head().await.status, 101);
            client.send(&text("hello")).await;
            client.expect(0x81, b"hello").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p1_s8_over_http2_a_success_opens_under_the_guard_only_if_it_is_ours() {
    for around in Around::ALL {
        let (stack, _) = Stack::recorded();
        let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
        let sender = http2::session(guarded(service)).await;
        let (status, mut socket) = http2::request(&sender, http2::connect("/ws")).await;
        assert_eq!(status, StatusCode::OK);
        socket.send(&text("hello")).await;
        socket.expect(0x81, b"hello").await;
    }
    for around in Around::ALL {
        for change in [Some(Change::Replaced), Some(Change::Status(204)), None] {
            let (stack, recorder) = Stack::recorded();
            let service = around.layer(boxed(stack.layer.clone().layer(plain()), same));
            let service = match change {
                Some(change) => change.layer(service),
                // By a success that is somebody else's.
                None => boxed(service, async |response| {
                    drop(response);
                    Response::new(text_body(""))
                }),
            };
            let sender = http2::session(guarded(service)).await;
            let (status, mut socket) = http2::request(&sender, http2::connect("/ws")).await;
            let ours = change == Some(Change::Status(204));
            assert_eq!(status.is_success(), change != Some(Change::Replaced));
            if ours {
                // Any 2xx opens an extended CONNECT (RFC 8441 §5, RFC 9110 §9.3.6).
                socket.send(&text("let me in")).await;
                socket.expect(0x81, b"let me in").await;
                continue;
            }
            // The stream may be reset already.
            let _ = socket.output.send_data(text("let me in").into(), false);
            left(&stack.shutdown, 0).await;
            assert!(recorder.log().is_empty(), "{around:?} {change:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p1_the_guard_leaves_plain_requests_and_other_upgrades_alone() {
    let service = tower::service_fn(|mut request: Request<Incoming>| {
        let wants = request.headers().contains_key("upgrade");
        let extensions = request.extensions().len();
        let upgrade = hyper::upgrade::on(&mut request);
        async move {
            if !wants {
                return Ok::<_, Infallible>(Response::new(Full::from(format!("{extensions}"))));
            }
            tokio::spawn(async move {
                let upgraded = upgrade.await.unwrap();
                let mut io = hyper_util::rt::TokioIo::new(upgraded);
                io.write_all(b"\x81\x04mine").await.unwrap();
            });
            Ok(Response::builder()
                .status(101)
                .header("upgrade", "mine")
                .header("connection", "upgrade")
                .body(Full::default())
                .unwrap())
        }
    });
    let service = UpgradeGuardLayer::new().layer(service);
    let mut client = http1(service);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.1, "0");
    client
        .send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: mine\r\nConnection: upgrade\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 101);
    client.expect(0x81, b"mine").await;
}
