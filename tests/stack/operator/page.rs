//! The operator's page: who may see it, what it says, what its buttons do.

use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_websocket::{Message, OperatorPage, Rejection, Topics, WebSocketLayer};

use crate::support::*;

async fn ask(page: &OperatorPage, request: Request<()>) -> (StatusCode, Response<()>, String) {
    let response = page.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (parts.status, Response::from_parts(parts, ()), body)
}

fn request(method: Method, uri: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(uri);
    request.header("host", "ops.example").body(()).unwrap()
}

async fn list(page: &OperatorPage, query: &str) -> Value {
    let uri = format!("/operator?connections&{query}");
    let (status, _, body) = ask(page, request(Method::GET, &uri)).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn post(page: &OperatorPage, query: &str, headers: &[(&'static str, &str)]) -> StatusCode {
    let mut request = request(Method::POST, &format!("/operator?{query}"));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    ask(page, request).await.0
}

fn paths(list: &Value) -> Vec<&str> {
    let rows = list["connections"].as_array().unwrap().iter();
    rows.map(|one| one["path"].as_str().unwrap()).collect()
}

/// Three rooms, with messages of 1, 2 and 3 bytes.
async fn rooms(stack: &Stack<Recorder>) -> Vec<Client> {
    let mut clients = Vec::new();
    for (room, said) in [("/a", "xx"), ("/b", "x"), ("/B2", "xxx")] {
        let mut client = stack.connect();
        client
            .send(HANDSHAKE.replace("/ws", &format!("/ws{room}")).as_bytes())
            .await;
        assert_eq!(client.head().await.status(), 101);
        client.send(&text(said)).await;
        client.expect(0x81, said.as_bytes()).await;
        clients.push(client);
    }
    clients
}

#[tokio::test(start_paused = true)]
async fn s5_whom_the_guard_does_not_let_in_gets_its_answer_and_nothing_else() {
    let (stack, _) = Stack::recorded();
    let _clients = rooms(&stack).await;
    let guard = |request: &Parts| match request.headers.contains_key("x-operator") {
        true => Ok(()),
        false => Err(Rejection::new(StatusCode::UNAUTHORIZED, "log in")),
    };
    let page = OperatorPage::new(&stack.layer.connections(), guard);
    for (method, query) in [
        (Method::GET, ""),
        (Method::GET, "?connections"),
        (Method::POST, "?drain=1"),
        (Method::PUT, ""),
    ] {
        let uri = format!("/operator{query}");
        let (status, _, body) = ask(&page, request(method, &uri)).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::UNAUTHORIZED, "log in\n"),
            "{query}"
        );
    }
    assert!(!stack.shutdown.is_draining());
    let mut operator = request(Method::GET, "/operator");
    operator
        .headers_mut()
        .insert("x-operator", "1".parse().unwrap());
    assert_eq!(ask(&page, operator).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn s5_the_page_can_neither_be_framed_nor_cached_nor_load_anything() {
    let (stack, _) = Stack::recorded();
    let page = OperatorPage::without_guard(&stack.layer.connections());
    let (status, response, body) = ask(&page, request(Method::GET, "/operator")).await;
    assert_eq!(status, 200);
    assert!(body.starts_with("<!doctype html>"));
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-frame-options"), "DENY");
    let policy = header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let (status, response, _) = ask(&page, request(Method::DELETE, "/operator")).await;
    assert_eq!(
        (status.as_u16(), &response.headers()["allow"]),
        (405, &"GET, HEAD, POST".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn r1_the_list_is_searched_sorted_and_cut() {
    let (stack, _) = Stack::recorded();
    let _clients = rooms(&stack).await;
    let page = OperatorPage::without_guard(&stack.layer.connections());
    let all = list(&page, "").await;
    assert_eq!(paths(&all), ["/B2", "/b", "/a"], "the youngest first");
    assert_eq!(
        (&all["count"], &all["matching"], &all["draining"]),
        (&3.into(), &3.into(), &false.into())
    );
    assert_eq!(
        paths(&list(&page, "sort=received").await),
        ["/B2", "/a", "/b"]
    );
    assert_eq!(paths(&list(&page, "search=%2FB").await), ["/B2", "/b"]);
    let one = list(&page, "search=/b&sort=sent&limit=1").await;
    assert_eq!((paths(&one), &one["matching"]), (vec!["/B2"], &2.into()));
    let id = one["connections"][0]["id"].to_string();
    assert_eq!(paths(&list(&page, &format!("search={id}")).await), ["/B2"]);
    assert_eq!(paths(&list(&page, "search=nobody").await), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn f27_the_close_button_closes_one_and_only_for_its_own_page() {
    let (stack, _) = Stack::recorded();
    let mut clients = rooms(&stack).await;
    let page = OperatorPage::without_guard(&stack.layer.connections());
    let found = list(&page, "search=/a").await;
    let close = format!("close={}", found["connections"][0]["id"]);
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(post(&page, &close, &[foreign]).await, 403, "{foreign:?}");
        assert_eq!(post(&page, "drain=1", &[foreign]).await, 403, "{foreign:?}");
    }
    assert_eq!(stack.layer.connections().count(), 3);
    let own = [
        ("origin", "https://ops.example"),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(post(&page, &close, &own).await, 204);
    clients[0].expect_close(Some(1012)).await;
    // A GET changes nothing.
    let uri = format!("/operator?{close}");
    assert_eq!(ask(&page, request(Method::GET, &uri)).await.0, 200);

    for (query, status) in [
        (close.as_str(), 404),
        ("close=18446744073709551615", 404),
        ("close=x", 400),
        ("close=1&code=70000", 400),
        ("drain=-1", 400),
        ("", 400),
    ] {
        assert_eq!(post(&page, query, &[]).await, status, "{query}");
    }
    let id = list(&page, "search=/b2").await["connections"][0]["id"].clone();
    assert_eq!(
        post(&page, &format!("close={id}&code=1006"), &[]).await,
        400
    );
    assert_eq!(
        post(&page, &format!("close={id}&code=4001"), &[]).await,
        204
    );
    clients[2].expect_close(Some(4001)).await;
}

#[tokio::test(start_paused = true)]
async fn a15_the_drain_button_drains_once() {
    let (stack, _) = Stack::recorded();
    let mut clients = rooms(&stack).await;
    let page = OperatorPage::without_guard(&stack.layer.connections());
    assert_eq!(post(&page, "drain=20", &[]).await, 202);
    for client in &mut clients {
        client.expect_close(Some(1001)).await;
    }
    assert_eq!(list(&page, "").await["draining"], true);
    assert_eq!(post(&page, "drain=20", &[]).await, 409);
}

#[tokio::test(start_paused = true)]
async fn r1_a_server_says_whether_it_is_ready() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_connections(1));
    let ready = stack.layer.readiness();
    let status = async || {
        let response = ready.clone().oneshot(Request::new(())).await.unwrap();
        response.status()
    };
    assert_eq!(status().await, 200);
    let mut client = stack.open().await;
    assert_eq!(status().await, 503);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    left(&stack.shutdown, 0).await;
    assert_eq!(status().await, 200);
    stack.shutdown.drain(std::time::Duration::ZERO).await;
    assert_eq!(status().await, 503);
}

#[tokio::test(start_paused = true)]
async fn r1_the_page_says_what_topics_there_are_and_who_subscribes_one() {
    let topics = Topics::new();
    let layer = WebSocketLayer::from_fn("/", |mut conn: tower_websocket::Connection| async move {
        conn.subscribe(conn.path().trim_start_matches('/'))?;
        conn.subscribe("all")?;
        conn.send("ready").await?;
        while conn.recv().await?.is_some() {}
        Ok(())
    });
    let layer = layer.topics(&topics);
    let page = OperatorPage::without_guard(&layer.connections());
    assert_eq!(list(&page, "").await["topics"], Value::Null);
    let page = page.topics(&topics);
    let server = tower_websocket::test::TestServer::new(layer.into_service());
    let mut clients = Vec::new();
    for room in ["tea", "tea", "coffee"] {
        let mut client = server.connect(&format!("/{room}")).await.expect("a 101");
        assert_eq!(client.recv().await, Message::from("ready"));
        clients.push(client);
    }
    let found = list(&page, "search=Coffee").await;
    let status = &found["topics"];
    assert_eq!(
        (
            &status["status"],
            &status["topics"],
            &status["subscriptions"]
        ),
        (&"local".into(), &3.into(), &6.into())
    );
    let largest = serde_json::json!([
        {"name": "all", "subscribers": 3},
        {"name": "tea", "subscribers": 2},
        {"name": "coffee", "subscribers": 1},
    ]);
    assert_eq!(status["largest"], largest);
    // By its path, and by its topic.
    assert_eq!(paths(&found), ["/coffee"]);
    assert_eq!(list(&page, "search=all").await["matching"], 3);
    let topics = &found["connections"][0]["topics"];
    assert_eq!(*topics, serde_json::json!(["all", "coffee"]));
}
