//! [`WebSocketOptions`]: the options as a value of their own, and the upgrade inside a route.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Empty;

use super::answer::{Answer, answer};
use super::body::ResponseBody;
use super::future::ResponseFuture;
use super::mount::Mount;
use super::options::Options;
use super::setters::option_setters;
use crate::connection::Connection;
use crate::driver::{Application, later_request};
use crate::handler::{FnOnceHandler, Result};
use crate::handshake;

/// The options of a layer as a value of their own, and the way to open a WebSocket inside any handler
/// of any router.
///
/// It has every setter that [`WebSocketLayer`](crate::WebSocketLayer) has, with the same defaults.
/// Clones share one set of limits and one [`Shutdown`](crate::Shutdown); a clone whose limits are set anew has limits
/// of its own. It is cheap to clone, so that it can live in the state of an application.
///
/// # Inside a route
///
/// [`upgrade`](Self::upgrade) answers the request of a route: with path parameters, state and every
/// extractor at hand, the handler is made with what it needs. Route it with `any`, not `get`: over
/// HTTP/2 a WebSocket is opened with CONNECT (RFC 8441).
///
/// ```
/// use axum::extract::{Path, Request, State};
/// use axum::response::IntoResponse;
/// use axum::{Router, routing::any};
/// use tower_websocket::{Connection, Message, Result, WebSocketHandler, WebSocketOptions};
///
/// #[derive(Clone)]
/// struct App {
///     websockets: WebSocketOptions,
/// }
///
/// #[derive(Clone)]
/// struct Room {
///     id: u32,
/// }
///
/// impl WebSocketHandler for Room {
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         conn.send(format!("room {} heard {} bytes", self.id, message.len())).await?;
///         Ok(())
///     }
/// }
///
/// async fn room(
///     State(app): State<App>,
///     Path(id): Path<u32>,
///     request: Request,
/// ) -> impl IntoResponse {
///     app.websockets.upgrade(request, Room { id }).await
/// }
///
/// let app = App {
///     websockets: WebSocketOptions::new().max_connections(10_000),
/// };
/// let router: Router = Router::new().route("/rooms/{id}", any(room)).with_state(app);
/// ```
///
/// # With a layer
///
/// [`WebSocketLayer::options`](crate::WebSocketLayer::options) gives a layer the same options, and so
/// the same limits.
#[derive(Clone)]
#[must_use = "options do nothing until they are used, and their methods return new ones"]
pub struct WebSocketOptions {
    options: Arc<Options>,
}

impl WebSocketOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            options: Arc::new(Options::new(Mount::new("/"))),
        }
    }

    /// Answers the request of a route: opens a WebSocket that `handler` serves, or refuses it as a
    /// layer would. A request that is not a WebSocket handshake gets 426. The response is complete:
    /// return it as it is.
    ///
    /// The connection lives in a task of its own, so that the route returns at once. The future needs
    /// a tokio runtime; dropping it before it is ready refuses the handshake.
    ///
    /// [`Connection::mount`] is empty, and [`Connection::path`] the whole path that the router hands
    /// over: under axum's `nest`, the part behind the prefix.
    ///
    /// The handler's own [`on_upgrade`](crate::WebSocketHandler::on_upgrade) is called as with a layer.
    /// Here most applications do not need it, since the extractors of the route run before.
    ///
    /// If a layer around the route refuses requests after the route was called, add
    /// [`UpgradeGuardLayer`](crate::UpgradeGuardLayer) as the outermost: a route sees fewer of a
    /// connection's requests than a layer does, by which it could tell that its 101 was replaced.
    pub fn upgrade<B, H>(
        &self,
        request: Request<B>,
        handler: H,
    ) -> impl Future<Output = Response<ResponseBody<Empty<Bytes>>>> + Send + use<B, H>
    where
        H: crate::WebSocketHandler,
    {
        let (parts, _body) = request.into_parts();
        self.answer(parts, || handler)
    }

    /// [`upgrade`](Self::upgrade) for a function of a [`Connection`], as
    /// [`WebSocketLayer::from_fn`](crate::WebSocketLayer::from_fn) mounts one. It is called once, so it
    /// can own what the extractors found. When it returns `Ok` the connection is closed with 1000,
    /// with an error it is closed with 1011.
    ///
    /// ```
    /// use axum::extract::{Path, Request, State};
    /// use axum::response::IntoResponse;
    /// use tower_websocket::{Connection, WebSocketOptions};
    ///
    /// async fn hello(
    ///     State(websockets): State<WebSocketOptions>,
    ///     Path(name): Path<String>,
    ///     request: Request,
    /// ) -> impl IntoResponse {
    ///     websockets
    ///         .upgrade_with(request, async move |conn: Connection| {
    ///             conn.send(format!("hello {name}")).await?;
    ///             Ok(())
    ///         })
    ///         .await
    /// }
    /// # let _: axum::Router = axum::Router::new()
    /// #     .route("/hello/{name}", axum::routing::any(hello))
    /// #     .with_state(WebSocketOptions::new());
    /// ```
    pub fn upgrade_with<B, F, Fut>(
        &self,
        request: Request<B>,
        function: F,
    ) -> impl Future<Output = Response<ResponseBody<Empty<Bytes>>>> + Send + use<B, F, Fut>
    where
        F: FnOnce(Connection) -> Fut + Send + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        let (parts, _body) = request.into_parts();
        self.answer(parts, || FnOnceHandler::new(function))
    }

    option_setters!();

    fn answer<E, F>(
        &self,
        parts: Parts,
        application: F,
    ) -> impl Future<Output = Response<ResponseBody<Empty<Bytes>>>> + Send + use<E, F>
    where
        E: Application,
        F: FnOnce() -> E,
    {
        later_request();
        let answer = match answer(&self.options, application, parts) {
            Answer::Plain(parts) => ResponseFuture::refused(handshake::plain_refusal(&parts)),
            Answer::Refused(rejection) => ResponseFuture::refused(rejection),
            Answer::Upgrading(upgrading) => ResponseFuture::upgrading(upgrading),
        };
        async move {
            let answer: ResponseFuture<Ready<Result<Response<_>, Infallible>>> = answer;
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }

    /// With the mount of a layer.
    pub(super) fn mounted(&self, mount: &Mount) -> Arc<Options> {
        Arc::new(Options {
            mount: mount.clone(),
            ..Options::clone(&self.options)
        })
    }

    fn set(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WebSocketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketOptions")
            .field("config", &self.options.config)
            .finish_non_exhaustive()
    }
}
