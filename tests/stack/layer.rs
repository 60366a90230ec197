//! The options of a layer: its own `on_upgrade` in every style, what a `Handshake` shows and what
//! cannot be changed through it, where the address of a peer comes from, and what can be off.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::axum::extract::ConnectInfo;
use futures_util::SinkExt;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use tower::util::{MapRequestLayer, MapResponseLayer};
use tower::{Layer, Service};
use tower_http::compression::CompressionLayer;
use tower_websocket::{
    Connection, Deflate, Handshake, Message, Rejection, Result, Shutdown, TrustedProxies,
    WebSocketHandler, WebSocketLayer, upgrade_fn,
};

use crate::support::*;

type Answer = std::result::Result<(), Rejection>;

/// What the layer's `on_upgrade` found out.
#[derive(Clone)]
struct User(String);

/// Asks for `?user=…`.
async fn check(handshake: &mut Handshake) -> Answer {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let query = handshake.request().uri.query().unwrap_or_default();
    let user = query
        .strip_prefix("user=")
        .ok_or(StatusCode::UNAUTHORIZED)?
        .to_owned();
    handshake.extensions_mut().insert(User(user));
    let cookie = HeaderValue::from_static("seen=1");
    handshake
        .response_headers_mut()
        .insert(header::SET_COOKIE, cookie);
    handshake.select_protocol("v1");
    Ok(())
}

fn user(parts: &http::request::Parts) -> String {
    let user = parts.extensions.get::<User>();
    user.map_or_else(|| "nobody".to_owned(), |user| user.0.clone())
}

fn asking(target: &str) -> String {
    HANDSHAKE.replace("/ws", target)
}

async fn status<S, B>(service: S, request: &str) -> (Client, Head)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = http1(service);
    client.send(request.as_bytes()).await;
    let head = client.head().await;
    (client, head)
}

#[derive(Clone)]
struct Greets(Recorder);

impl WebSocketHandler for Greets {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Answer {
        self.0
            .note(format!("asked for {}", user(handshake.request())));
        assert_eq!(handshake.protocol(), Some("v1"));
        Ok(())
    }

    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.send(format!("hello {}", user(conn.request()))).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a4_the_layers_on_upgrade_decides_before_the_application_in_every_style() {
    async fn decides<E>(layer: WebSocketLayer<E>)
    where
        WebSocketLayer<E>: Layer<Plain>,
        <WebSocketLayer<E> as Layer<Plain>>::Service: Service<Request<Incoming>, Response = Response<Answered>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        <<WebSocketLayer<E> as Layer<Plain>>::Service as Service<Request<Incoming>>>::Future: Send,
    {
        let service = layer.layer(plain());
        let (_, head) = status(service.clone(), HANDSHAKE).await;
        assert_eq!(head.status(), 401);
        assert_eq!(head.header("set-cookie"), None);
        let request =
            asking("/ws?user=ann").replace("Host: ", "Sec-WebSocket-Protocol: v2, v1\r\nHost: ");
        let (mut client, head) = status(service, &request).await;
        assert_eq!(head.status(), 101);
        assert_eq!(head.header("set-cookie"), Some("seen=1"));
        assert_eq!(head.header("sec-websocket-protocol"), Some("v1"));
        client.expect(0x81, b"hello ann").await;
    }
    type Answered = tower_websocket::ResponseBody<http_body_util::Full<bytes::Bytes>>;

    let recorder = Recorder::default();
    decides(WebSocketLayer::new("/ws", Greets(recorder.clone())).on_upgrade(check)).await;
    // Not for the one that the layer refused.
    assert_lines(&recorder.log(), &["asked for ann"]);
    decides(
        WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
            conn.send(format!("hello {}", user(conn.request()))).await?;
            Ok(())
        })
        .on_upgrade(check),
    )
    .await;
    decides(
        WebSocketLayer::stream("/ws", |mut socket, request| async move {
            let hello = format!("hello {}", user(&request));
            Ok(socket.send(hello.into()).await?)
        })
        .on_upgrade(check),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a4_every_form_of_a_function_can_be_the_layers_on_upgrade() {
    fn boxed(handshake: &mut Handshake) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(check(handshake))
    }
    async fn check_among(handshake: &mut Handshake, users: &[&str]) -> Answer {
        check(handshake).await?;
        let user = user(handshake.request());
        let known = users.contains(&&*user);
        known.then_some(()).ok_or(StatusCode::FORBIDDEN.into())
    }
    let users: Arc<[&str]> = ["ann", "ben"].into();
    let (known, among) = (users.clone(), users);
    let layer = || WebSocketLayer::new("/ws", Recorder::default());
    let forms = [
        layer().on_upgrade(check),
        layer().on_upgrade(boxed),
        layer().on_upgrade(async |handshake: &mut Handshake| check(handshake).await),
        layer().on_upgrade(move |handshake: &mut Handshake| {
            let known = known.clone();
            let query = handshake.request().uri.query().map(str::to_owned);
            async move {
                tokio::task::yield_now().await;
                let user = query
                    .as_deref()
                    .and_then(|query| query.strip_prefix("user="));
                let user = user.ok_or(StatusCode::UNAUTHORIZED)?;
                assert!(known.contains(&user));
                Ok(())
            }
        }),
        layer().on_upgrade(upgrade_fn(move |handshake| {
            let among = among.clone();
            Box::pin(async move { check_among(handshake, &among).await })
        })),
        // The last one counts.
        layer()
            .on_upgrade(async |_: &mut Handshake| Err(StatusCode::GONE.into()))
            .on_upgrade(check),
    ];
    for (i, layer) in forms.iter().enumerate() {
        let service = layer.layer(plain());
        let (_, head) = status(service.clone(), HANDSHAKE).await;
        assert_eq!(head.status(), 401, "{i}");
        let (mut client, head) = status(service, &asking("/ws?user=ben")).await;
        assert_eq!(head.status(), 101, "{i}");
        client.send(&text("a")).await;
        client.expect(0x81, b"a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a1_the_layers_on_upgrade_that_panics_is_500_and_shares_its_time_with_the_handlers() {
    #[derive(Clone)]
    struct Slow;
    impl WebSocketHandler for Slow {
        async fn on_upgrade(&mut self, _: &mut Handshake) -> Answer {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        }
    }
    let shutdown = Shutdown::new();
    let layer = WebSocketLayer::new("/ws", Slow)
        .upgrade_timeout(Duration::from_secs(3))
        .max_connections(1)
        .shutdown(&shutdown);
    let began = tokio::time::Instant::now();
    let slow = layer.clone().on_upgrade(async |_: &mut Handshake| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    });
    let panics_early = |_: &mut Handshake| -> std::future::Ready<Answer> { panic!("at once") };
    let panics_late = async |_: &mut Handshake| -> Answer {
        tokio::task::yield_now().await;
        panic!("later")
    };
    // The permit is back each time: another would be a 503 without any delay.
    for (layer, expected, seconds) in [
        (slow.clone(), 503, 3),
        (slow, 503, 6),
        (layer.clone().on_upgrade(panics_early), 500, 6),
        (layer.clone().on_upgrade(panics_late), 500, 6),
        (layer, 101, 8),
    ] {
        let (_client, head) = status(layer.layer(plain()), HANDSHAKE).await;
        assert_eq!(head.status(), expected);
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    left(&shutdown, 0).await;
}

/// An application that does to its request what it can.
async fn disguise(handshake: &mut Handshake) -> Answer {
    let before = (handshake.mount().to_owned(), handshake.path().to_owned());
    let request = handshake.request_mut();
    request.version = Version::HTTP_2;
    request.uri = Uri::from_static("http://elsewhere/other/path?q");
    request.headers.clear();
    assert_eq!(
        (handshake.mount(), handshake.path()),
        (&*before.0, &*before.1)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn x1_a_request_that_on_upgrade_took_for_http2_is_refused_by_an_outer_403_all_the_same() {
    let second = "GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for connection in ["Upgrade", "Upgrade, close"] {
        let (stack, recorder) = Stack::recorded();
        let refuse = MapResponseLayer::new(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        });
        let layer = stack.layer.clone().on_upgrade(disguise);
        let mut client = http1(refuse.layer(layer.layer(plain())));
        let handshake =
            HANDSHAKE.replace("Connection: Upgrade", &format!("Connection: {connection}"));
        client.send((handshake + second).as_bytes()).await;
        assert_eq!(client.head().await.status(), 403);
        client.try_send(&text("let me in")).await;
        client.end().await;
        left(&stack.shutdown, 0).await;
        assert_lines(&recorder.log(), &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn p1_a_request_whose_headers_on_upgrade_removed_opens_under_compression() {
    for connection in ["Upgrade", "Upgrade, close"] {
        let (stack, _) = Stack::recorded();
        let layer = stack.layer.clone().on_upgrade(disguise);
        let request = HANDSHAKE.replace(
            "Connection: Upgrade",
            &format!("Accept-Encoding: gzip\r\nConnection: {connection}"),
        );
        let service = CompressionLayer::new().layer(layer.layer(plain()));
        let (mut client, head) = status(service, &request).await;
        assert_eq!(head.status(), 101, "{head:?}");
        client.send(&text("a")).await;
        client.expect(0x81, b"a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn h27_path_and_mount_stay_those_of_the_request_whatever_on_upgrade_does_to_it() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        let (mount, path) = (conn.mount(), conn.path());
        let seen = format!("{mount} {path} {}", conn.request().uri);
        conn.send(seen).await?;
        Ok(())
    })
    .on_upgrade(disguise);
    let (mut client, head) = status(layer.layer(plain()), &asking("/ws/room/7?a=b")).await;
    assert_eq!(head.status(), 101);
    client
        .expect(0x81, b"/ws /room/7 http://elsewhere/other/path?q")
        .await;
}

/// A stack below something that inserts a value into the extensions of each request.
fn under<T: Clone + Send + Sync + 'static, H: WebSocketHandler>(
    value: T,
    layer: &WebSocketLayer<H>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<tower_websocket::ResponseBody<http_body_util::Full<bytes::Bytes>>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let insert = MapRequestLayer::new(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(value.clone());
        request
    });
    insert.layer(layer.layer(plain()))
}

#[tokio::test(start_paused = true)]
async fn r1_the_peers_address_is_found_where_servers_leave_it_and_shown_to_on_upgrade() {
    #[derive(Clone)]
    struct Where(String);
    #[derive(Clone, Copy)]
    struct Own(SocketAddr);

    let layer = WebSocketLayer::new("/ws", Told).on_upgrade(async |handshake: &mut Handshake| {
        let seen = format!("{:?} {:?}", handshake.peer_addr(), handshake.client_ip());
        handshake.extensions_mut().insert(Where(seen));
        Ok(())
    });
    #[derive(Clone)]
    struct Told;
    impl WebSocketHandler for Told {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            let before = conn.request().extensions.get::<Where>().unwrap().0.clone();
            let now = format!("{:?} {:?}", conn.peer_addr(), conn.client_ip());
            assert_eq!(before, now);
            conn.send(now).await?;
            Ok(())
        }
    }
    async fn expect<S, B>(service: S, expected: &str)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = HANDSHAKE.replace("Host: ", "X-Forwarded-For: 192.0.2.9\r\nHost: ");
        let (mut client, head) = status(service, &request).await;
        assert_eq!(head.status(), 101);
        client.expect(0x81, expected.as_bytes()).await;
    }

    let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
    expect(under((), &layer), "None None").await;
    expect(
        under(mapped, &layer),
        "Some([::ffff:192.0.2.1]:80) Some(192.0.2.1)",
    )
    .await;
    let v4_found = "Some(192.0.2.1:80) Some(192.0.2.1)";
    expect(under(ConnectInfo(v4), &layer), v4_found).await;
    // What a layer has put there itself comes before what axum found.
    let other: SocketAddr = "192.0.2.2:1".parse().unwrap();
    let corrects = MapRequestLayer::new(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(other));
        request
    });
    expect(corrects.layer(under(v4, &layer)), v4_found).await;
    let behind = layer
        .clone()
        .trusted_proxies(TrustedProxies::x_forwarded_for(["192.0.2.1"]));
    let client_found = "Some(192.0.2.1:80) Some(192.0.2.9)";
    expect(under(v4, &behind), client_found).await;
    expect(under(ConnectInfo(v4), &behind), client_found).await;
    expect(under(v4, &behind.trusted_proxies(None)), v4_found).await;
    // Any function, with what it captured, in place of both.
    let ports = Arc::new([80]);
    let own = layer.peer_addr(move |request| {
        let Own(address) = request.extensions.get()?;
        ports.contains(&address.port()).then_some(*address)
    });
    expect(under(Own(v4), &own), v4_found).await;
    expect(under(Own(other), &own), "None None").await;
    expect(under(v4, &own), "None None").await;
}

#[tokio::test(start_paused = true)]
async fn r1_the_limit_per_address_needs_no_more_than_the_address_in_the_extensions() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_connections_per_ip(1));
    let mut held = Vec::new();
    for (address, expected) in [
        ("192.0.2.1:1", 101),
        ("192.0.2.2:1", 101),
        ("192.0.2.1:2", 429),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        held.push(status(under(ConnectInfo(address), &stack.layer), HANDSHAKE).await);
        assert_eq!(held.last().unwrap().1.status(), expected, "{address}");
    }
}

/// What can be off is off with `None`, whatever was set before.
#[tokio::test(start_paused = true)]
async fn p8_every_option_that_can_be_off_can_be_switched_off_again() {
    let (stack, _) = Stack::recorded();
    let limited = stack.layer.clone().max_connections(0);
    assert_eq!(
        status(limited.layer(plain()), HANDSHAKE).await.1.status(),
        503
    );
    let limited = limited.max_connections(None).max_connections_per_ip(0);
    assert_eq!(
        status(limited.layer(plain()), HANDSHAKE).await.1.status(),
        429
    );

    let second = Duration::from_secs(1);
    let off = limited
        .max_connections_per_ip(None)
        .max_messages_per_second(1)
        .max_messages_per_second(None)
        .max_bytes_per_second(1)
        .max_bytes_per_second(None)
        .max_inflated_bytes_per_second(1)
        .max_inflated_bytes_per_second(None)
        .deflate(Deflate::new())
        .deflate(None)
        .heartbeat(second)
        .heartbeat(None)
        .pong_timeout(second)
        .pong_timeout(None)
        .idle_timeout(second)
        .idle_timeout(None)
        .max_lifetime(second)
        .max_lifetime(None)
        .on_message_timeout(second)
        .on_message_timeout(None);
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nHost: ";
    let request = HANDSHAKE.replace("Host: ", offers);
    let (mut client, head) = status(off.layer(plain()), &request).await;
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("sec-websocket-extensions"), None);
    let message = [b'a'; 1000];
    for _ in 0..200 {
        client.send(&frame(0x82, &message)).await;
        client.expect(0x82, &message).await;
    }
    let quiet = tokio::time::timeout(Duration::from_secs(100), client.frame());
    assert!(quiet.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn p8_a_queue_of_zero_has_room_for_one_message() {
    for layer in [
        WebSocketLayer::new("/ws", Recorder::default()).max_queued_messages(0),
        WebSocketLayer::new("/ws", Recorder::default()).max_queued_bytes(0),
    ] {
        let (mut client, _) = status(layer.layer(plain()), HANDSHAKE).await;
        for _ in 0..10 {
            client.send(&text("abc")).await;
            client.expect(0x81, b"abc").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h15_where_a_subprotocol_is_required_a_client_without_it_gets_400_and_its_name() {
    let layer = WebSocketLayer::new("/ws", Recorder::default())
        .protocols(["mqtt"])
        .require_protocol()
        .on_upgrade(async |handshake: &mut Handshake| {
            assert_eq!(handshake.protocol(), Some("mqtt"));
            Ok(())
        });
    for (offer, expected) in [
        ("", 400),
        ("Sec-WebSocket-Protocol: chat\r\n", 400),
        ("Sec-WebSocket-Protocol: chat, mqtt\r\n", 101),
    ] {
        let mut client = http1(layer.layer(plain()));
        let request = HANDSHAKE.replace("Host: ", &format!("{offer}Host: "));
        client.send(request.as_bytes()).await;
        let (head, body) = whole(client.response().await);
        assert_eq!(head.status(), expected);
        if expected == 400 {
            assert!(body.contains("must offer one of: mqtt"), "{body}");
        } else {
            assert_eq!(head.header("sec-websocket-protocol"), Some("mqtt"));
        }
    }
}

/// A rule about origins that no list can express.
#[tokio::test(start_paused = true)]
async fn h14_the_layers_on_upgrade_can_have_a_rule_of_its_own_about_origins() {
    let layer = WebSocketLayer::new("/ws", Recorder::default())
        .any_origin()
        .on_upgrade(async |handshake: &mut Handshake| {
            let origin = handshake.request().headers.get(header::ORIGIN);
            let good =
                origin.is_some_and(|origin| origin.as_bytes().ends_with(b"-preview.example"));
            good.then_some(()).ok_or(StatusCode::FORBIDDEN.into())
        });
    for (origin, expected) in [
        ("https://a-preview.example", 101),
        ("https://a.example", 403),
        ("null", 403),
    ] {
        let line = format!("Origin: {origin}\r\nHost: ");
        let request = HANDSHAKE.replace("Host: ", &line);
        assert_eq!(
            status(layer.layer(plain()), &request).await.1.status(),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a4_what_on_upgrade_does_not_keep_for_the_connection_is_there_for_the_handlers_own() {
    #[derive(Clone)]
    struct Keeps(Option<String>);
    impl WebSocketHandler for Keeps {
        async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Answer {
            self.0 = Some(user(handshake.request()));
            Ok(())
        }
        async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
            assert_eq!(user(conn.request()), "nobody");
            conn.send(self.0.clone().unwrap()).await?;
            Ok(())
        }
    }
    let layer = WebSocketLayer::new("/ws", Keeps(None))
        .keep_request(false)
        .on_upgrade(check);
    let (mut client, _) = status(layer.layer(plain()), &asking("/ws?user=ann")).await;
    client.send(&text("who am I?")).await;
    client.expect(0x81, b"ann").await;
}
