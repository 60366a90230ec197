//! The rows of the matrix in `mod.rs`, and servers of other shapes.

use tower_websocket::WebSocketLayer;

use super::*;
use crate::http2;

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
                    let mut client = tcp_client(addr).await;
                    client.open("/ws").await;
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
        assert_eq!(client.response().await.status(), 403);
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
        assert_eq!(client.head().await.status(), 101);
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
            assert_eq!(client.head().await.status(), 101);
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
            assert_eq!(client.head().await.status(), 101);
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
            assert_eq!(client.head().await.status(), 101);
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
        let mut client = tcp_client(addr).await;
        client
            .send(handshake_with("Connection: close, Upgrade").as_bytes())
            .await;
        if refused {
            assert_eq!(client.head().await.status(), 204);
            client.try_send(&text("let me in")).await;
            client.end().await;
            left(&stack.shutdown, 0).await;
            assert!(recorder.log().is_empty());
        } else {
            assert_eq!(client.head().await.status(), 101);
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
    assert_eq!(client.response().await.body(), "0");
    client
        .send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: mine\r\nConnection: upgrade\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 101);
    client.expect(0x81, b"mine").await;
}
