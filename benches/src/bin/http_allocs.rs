//! Counts what the layer allocates for a plain HTTP request, on its way in and out: nothing.
//!
//! Prints the allocations of an inner service with and without the layer, and fails if the
//! layer adds any.

use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, service_fn};
use tower_websocket::{WebSocketHandler, WebSocketLayer};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Its callbacks are never called; a field that allocates shows if a clone of it is made.
#[derive(Clone)]
struct Quiet {
    _name: String,
}

impl WebSocketHandler for Quiet {}

async fn page(_: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::builder()
        .header("content-type", "text/plain")
        .body(Full::from("hello\n"))
        .expect("a response"))
}

fn main() -> ExitCode {
    let handler = Quiet {
        _name: "quiet".to_owned(),
    };
    let layer = WebSocketLayer::new("/echo", handler);
    let mut bare = service_fn(page);
    let mut layered = layer.layer(service_fn(page));

    let mut code = ExitCode::SUCCESS;
    println!("allocations for a plain HTTP request, without the layer and with it");
    for (what, path) in [
        ("not under the mount", "/"),
        ("beside the mount", "/echoes"),
        ("under the mount", "/echo/page?of=all"),
    ] {
        let (without, with) = (count(&mut bare, path), count(&mut layered, path));
        println!("  {what:<20} {path:<18} {without} {with}");
        if with > without {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Allocations from the call to the end of the response's body, once all is warm.
fn count<S, B>(service: &mut S, path: &str) -> u64
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: BodyExt<Data = Bytes>,
{
    let mut allocations = 0;
    for _ in 0..3 {
        let request = Request::get(path)
            .header("host", "example.com")
            .header("user-agent", "plain/1.0")
            .header("accept", "*/*")
            .header("connection", "keep-alive")
            .body(Empty::new())
            .expect("a request");
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        now(async {
            let Ok(response) = service.call(request).await;
            let mut body = pin!(response.into_body());
            while body.frame().await.is_some() {}
        });
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    allocations
}

/// The output of a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a service that is ready at once waits"),
    }
}
