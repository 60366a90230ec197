//! [`Stack`]: a tower stack on hyper, and the pipes to it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Extensions, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tower::Service;

use super::pipe::{Reset, ServerEnd};
use crate::error::BoxError;

/// See the module docs.
#[derive(Clone)]
pub(super) struct Stack {
    serve: Arc<Serve>,
}

type Serve = dyn Fn(ServerEnd, Version, Extensions) + Send + Sync;

/// What a pipe holds in each direction: less than large messages, so that reads and writes are partial.
const PIPE: usize = 16 * 1024;

impl Stack {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // Not all services are Sync.
        let service = Mutex::new(service);
        let serve = move |io: ServerEnd, version, extensions: Extensions| {
            let service = service.lock().unwrap_or_else(PoisonError::into_inner);
            let service = TowerToHyperService::new(service.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().extend(extensions.clone());
                hyper::service::Service::call(&service, request)
            });
            let io = TokioIo::new(io);
            if version == Version::HTTP_2 {
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.timer(TokioTimer::new()).enable_connect_protocol();
                tokio::spawn(server.serve_connection(io, service));
            } else {
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new());
                tokio::spawn(server.serve_connection(io, service).with_upgrades());
            }
        };
        Self {
            serve: Arc::new(serve),
        }
    }

    /// A connection to it. Its requests have these extensions, as if a server had put them there.
    pub(super) fn pipe(&self, version: Version, extensions: Extensions) -> (DuplexStream, Reset) {
        let (client, server) = ServerEnd::pipe(PIPE);
        let reset = server.reset();
        (self.serve)(server, version, extensions);
        (client, reset)
    }
}
