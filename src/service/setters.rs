//! The options, written once: [`WebSocketLayer`](crate::WebSocketLayer) and
//! [`WebSocketOptions`](crate::WebSocketOptions) have the same setters.

/// Expands to the setters. A type that has them has `fn set(self, impl FnOnce(&mut Options)) -> Self`.
///
/// A macro, because a trait would have to be imported by everybody who sets an option.
macro_rules! option_setters {
    () => {
        /// Largest message taken from a peer, in bytes of payload. Default 1 MiB, which is also
        /// what Python's `websockets` allows. A larger one closes the connection with 1009, from
        /// the header that declares it.
        ///
        /// Sets [`max_frame_size`](Self::max_frame_size) too, and
        /// [`max_fragments`](Self::max_fragments) unless that is set itself.
        pub fn max_message_size(self, bytes: usize) -> Self {
            self.set_config(|config| {
                config.max_message = bytes;
                config.max_frame = bytes;
            })
        }

        /// Largest single frame taken from a peer, in bytes of payload. Default as
        /// [`max_message_size`](Self::max_message_size); to be set after it.
        pub fn max_frame_size(self, bytes: usize) -> Self {
            self.set_config(|config| config.max_frame = bytes)
        }

        /// Frames that one message may consist of, empty ones counted; at least 1. More close the
        /// connection with 1008. Default: one for each 64 bytes of
        /// [`max_message_size`](Self::max_message_size), which is 16,384 for 1 MiB, and never less
        /// than 2,048. A value set here holds whichever of the two is called first.
        pub fn max_fragments(self, fragments: u32) -> Self {
            // A message has one at least.
            self.set_config(|config| config.max_fragments = Some(fragments.max(1)))
        }

        /// The subprotocols that the application speaks, the preferred first. Default: none.
        ///
        /// The first one that the client offers is chosen. If it offers none of them, the connection
        /// has none, unless [`require_protocol`](Self::require_protocol) refuses it. `on_upgrade` may
        /// choose [another](crate::Handshake::select_protocol).
        pub fn protocols<I>(self, protocols: I) -> Self
        where
            I: IntoIterator,
            I::Item: Into<String>,
        {
            let protocols: Vec<String> = protocols.into_iter().map(Into::into).collect();
            self.set(|options| options.policy.protocols = protocols)
        }

        /// Refuses clients that offer none of the [`protocols`](Self::protocols): they get 400, with a
        /// text that lists the protocols, before `on_upgrade` is called. Default: such a client gets a
        /// connection without a subprotocol.
        ///
        /// Use it where messages have no meaning without the subprotocol, as with MQTT or
        /// `graphql-transport-ws`. If `protocols` is empty, every client is refused.
        pub fn require_protocol(self) -> Self {
            self.set(|options| options.policy.require_protocol = true)
        }

        /// Accepts pages of these origins, such as `https://app.example.com`, and clients that send no
        /// Origin header, which are not browsers.
        ///
        /// Default: pages of the same host as the request only. Browsers let any page open a
        /// WebSocket to any server, with the user's cookies; checking the origin is what keeps a
        /// foreign page from it (RFC 6455 §10.2).
        ///
        /// An entry is `scheme://host[:port]`, or `scheme://*.domain[:port]` for all hosts below a
        /// domain. Any other is reported in the log and never matches, except `null` and a scheme
        /// alone, such as `file://`, which libraries of devices and web views send. Listing those is
        /// dangerous: **every** page can make a browser send `Origin: null` (with a sandboxed frame),
        /// and a saved page `file://`. List them only if nothing is authorised by cookies or network
        /// position alone.
        pub fn origins<I>(self, origins: I) -> Self
        where
            I: IntoIterator,
            I::Item: AsRef<str>,
        {
            let policy = $crate::handshake::OriginPolicy::list(origins);
            self.set(|options| options.policy.origin = policy)
        }

        /// Disables the origin check. Safe only if nothing is authorised by cookies or network position
        /// (`localhost`, an intranet) alone.
        ///
        /// A rule that [`origins`](Self::origins) cannot express is `any_origin` and a function for
        /// [`on_upgrade`](Self::on_upgrade) that reads the header.
        pub fn any_origin(self) -> Self {
            self.set(|options| options.policy.origin = $crate::handshake::OriginPolicy::Any)
        }

        /// The hosts that this server answers for, as `host[:port]`, or `*.domain[:port]` for all hosts
        /// below a domain: a WebSocket handshake whose Host (`:authority` over HTTP/2) is another gets
        /// 421, with a text that says what to list. Default: any host.
        ///
        /// Set it on servers that are reached by a fixed name, above all on `localhost` and in
        /// intranets. The default origin check compares Origin with Host; against DNS rebinding it
        /// does not help, since a page at `evil.example` whose name is made to lead to this server has
        /// `evil.example` in both.
        ///
        /// Ports are compared as those of origins: an entry without one stands for ports 80 and 443. A
        /// reverse proxy must pass on the original Host. Requests that are not WebSocket handshakes
        /// are not checked. An entry that is not a host is reported in the log and never matches.
        ///
        /// ```
        /// # use tower_websocket::{WebSocketHandler, WebSocketLayer};
        /// # #[derive(Clone)] struct Chat;
        /// # impl WebSocketHandler for Chat {}
        /// let layer = WebSocketLayer::new("/chat", Chat)
        ///     .allowed_hosts(["localhost:3000", "127.0.0.1:3000", "[::1]:3000"]);
        /// # drop(layer);
        /// ```
        pub fn allowed_hosts<I>(self, hosts: I) -> Self
        where
            I: IntoIterator,
            I::Item: AsRef<str>,
        {
            let hosts = $crate::handshake::Hosts::new(hosts);
            self.set(|options| options.policy.hosts = Some(hosts))
        }

        /// Lets `shutdown` end the connections of this layer.
        pub fn shutdown(self, shutdown: &$crate::Shutdown) -> Self {
            let shutdown = shutdown.clone();
            self.set(|options| options.shutdown = shutdown)
        }

        /// The topics of the connections of this layer. Default: topics of its own, which nothing else
        /// reaches; clones of the layer share them.
        ///
        /// Give one [`Topics`](crate::Topics) to all layers of an application whose connections should
        /// reach each other, and to whatever else publishes.
        pub fn topics(self, topics: &$crate::Topics) -> Self {
            let topics = topics.clone();
            self.set(|options| options.topics = topics)
        }

        /// Control frames (pings, pongs) that a peer may send in one second, and as many at once after a
        /// silence: a token bucket, as [`max_messages_per_second`](Self::max_messages_per_second). Default
        /// 50: a heartbeat needs one in many seconds. One more closes the connection with 1008. Zero
        /// counts as 1, since a client must be able to answer heartbeats.
        pub fn max_control_frames_per_second(self, frames: u32) -> Self {
            self.set_config(|config| config.max_control_rate = frames.max(1))
        }

        /// Messages that a peer may send in one second, and as many at once after a silence. Default
        /// `None`, no limit: a chat and a game differ by a thousand. One more closes the connection
        /// with 1008. Zero counts as 1.
        ///
        /// A token bucket: in t seconds pass `messages` · (1 + t). What waits in the socket while
        /// the application of the connection is busy is not held against the peer; what waits because
        /// something else blocks the thread for longer than a second is.
        pub fn max_messages_per_second(self, messages: impl Into<Option<u32>>) -> Self {
            let messages = messages.into();
            self.set_config(|config| config.max_message_rate = messages)
        }

        /// Bytes that a peer may send in one second, with all that belongs to them: headers, control
        /// frames, compressed messages as they come. Default `None`, no limit. More closes the
        /// connection with 1008. Zero counts as 1.
        ///
        /// A token bucket, as [`max_messages_per_second`](Self::max_messages_per_second). It holds
        /// at least one message of the largest size and 64 KiB, so that no message is too fast by
        /// itself; with compression a seventh more, since what does not get smaller grows. It counts the
        /// bytes on the wire. With the feature `deflate`, `max_inflated_bytes_per_second` limits what they
        /// inflate to.
        pub fn max_bytes_per_second(self, bytes: impl Into<Option<u64>>) -> Self {
            let bytes = bytes.into();
            self.set_config(|config| config.max_byte_rate = bytes)
        }

        /// How many messages may wait to be sent. Default 128. With so many, or with
        /// [`max_queued_bytes`](Self::max_queued_bytes), the queue is full: `send` waits, `try_send`
        /// gives the message back. Zero counts as 1, since with room for none nothing could be sent;
        /// `usize::MAX` leaves the limit to the bytes.
        pub fn max_queued_messages(self, messages: usize) -> Self {
            self.set_config(|config| config.queue_messages = messages.max(1))
        }

        /// How many bytes may wait to be sent: payload, and 64 bytes for each message. Default 1 MiB.
        /// With so many, or with [`max_queued_messages`](Self::max_queued_messages), the queue is full.
        /// Zero counts as 1.
        ///
        /// A message that is larger than the queue still gets its turn, so a peer that does not read
        /// costs `bytes` and one message.
        pub fn max_queued_bytes(self, bytes: usize) -> Self {
            self.set_config(|config| config.queue_bytes = bytes.max(1))
        }

        /// How long `on_upgrade` may take to decide, that of the layer and that of the handler together,
        /// and then the server to hand over the connection. Default 10 s. If `on_upgrade` exceeds it,
        /// the client receives 503. It cannot be off; zero counts as 1 s.
        pub fn upgrade_timeout(self, timeout: ::std::time::Duration) -> Self {
            self.set_config(|config| {
                config.upgrade_timeout = $crate::service::setters::not_zero(timeout)
            })
        }

        /// How long a message may take to arrive once its first byte has, and a write to be taken
        /// by the peer; each KiB that moves earns one second more, 64 s at the most. Default 30 s: a slow
        /// phone may finish, a peer that sends or reads a byte a second may not. Ends with 1008, or with
        /// 1006 where the peer does not read. It cannot be off; zero counts as 1 s.
        ///
        /// Only the payload of a message counts as progress: pings, headers and empty fragments earn no
        /// time. Linux buffers megabytes of what is written, so the time of a write begins when a peer that
        /// reads 16 kB a second would have read all that the kernel took before (8 MiB at the most). A peer
        /// that reads that fast is never cut off. The time to answer a ping or our Close frame begins at
        /// the same moment.
        ///
        /// At a shutdown, and at the end of its lifetime, a connection waits this long for a message that
        /// is arriving.
        pub fn progress_timeout(self, timeout: ::std::time::Duration) -> Self {
            self.set_config(|config| {
                config.progress_timeout = $crate::service::setters::not_zero(timeout)
            })
        }

        /// How long `on_message` may take. Default `None`, no limit; zero means the same. A call that
        /// exceeds it is dropped at the `.await` where it waits, `on_error` is called, and the
        /// connection is closed with 1011.
        ///
        /// Use it when callbacks await external services: without it, a call that never returns holds
        /// its connection for as long as the peer's network is there. It does not apply to `on_open`,
        /// which may run for the whole connection; `on_event` has it too. A callback that blocks its
        /// thread cannot be dropped: use `spawn_blocking` for such work.
        pub fn on_message_timeout(self, timeout: impl Into<Option<::std::time::Duration>>) -> Self {
            let timeout = $crate::service::setters::unless_zero(timeout.into());
            self.set_config(|config| config.on_message_timeout = timeout)
        }

        /// Reports callbacks that take longer than this with one line at WARN in 10 s, which names the
        /// callback and says how long it took and how many lines were left out; it stands in the span
        /// of the connection. Default `None`, off, since it costs two looks at the clock for each
        /// callback, 50 ns together; zero means the same. Nothing is ended: that is
        /// [`on_message_timeout`](Self::on_message_timeout).
        ///
        /// All callbacks but `on_open`, which may run for the whole connection. What counts is the time
        /// from the call to its return, whether it waits or blocks its thread.
        pub fn warn_slow_callbacks(
            self,
            threshold: impl Into<Option<::std::time::Duration>>,
        ) -> Self {
            let threshold = $crate::service::setters::unless_zero(threshold.into());
            self.set_config(|config| config.slow_callback = threshold)
        }

        /// Closes connections with 1001 when they are this old, less a random tenth of it, so that
        /// clients that connected together do not reconnect together. The message that is arriving and
        /// the messages in the queue are finished first. Default none. Use it where a load balancer should
        /// spread connections anew, or where tokens expire. `None`, or zero, sets none.
        pub fn max_lifetime(self, age: impl Into<Option<::std::time::Duration>>) -> Self {
            let age = $crate::service::setters::unless_zero(age.into());
            self.set_config(|config| config.max_lifetime = age)
        }

        /// Silence after which a ping is sent. Default 20 s, since proxies drop connections that
        /// are silent for 30 to 60 s. `None`, or zero, sends none.
        pub fn heartbeat(self, silence: impl Into<Option<::std::time::Duration>>) -> Self {
            // After no silence at all, the next would be due before the first is out.
            let silence = $crate::service::setters::unless_zero(silence.into());
            self.set_config(|config| config.heartbeat = silence)
        }

        /// How long the peer has to answer a heartbeat's ping. Default 20 s: a dead peer is found in
        /// 40 s, while network handover is tolerated. Ends with 1006.
        ///
        /// `None`, or zero, sets no deadline: pings are sent, so that proxies see no silence, and need
        /// no answer. A dead peer is then found when a write to it fails or makes no
        /// [progress](Self::progress_timeout).
        pub fn pong_timeout(self, timeout: impl Into<Option<::std::time::Duration>>) -> Self {
            let timeout = $crate::service::setters::unless_zero(timeout.into());
            self.set_config(|config| config.pong_timeout = timeout)
        }

        /// Closes connections with 1001 on which no message came or went for this long. Default
        /// none: a quiet client stays, heartbeats find the dead ones. `None`, or zero, sets none.
        pub fn idle_timeout(self, idle: impl Into<Option<::std::time::Duration>>) -> Self {
            let idle = $crate::service::setters::unless_zero(idle.into());
            self.set_config(|config| config.idle_timeout = idle)
        }

        /// How long the peer has to answer our Close frame, the application to finish when the
        /// connection has ended, and the socket to drain. Default 5 s each. Zero waits for none of them:
        /// our Close frame is written if the socket takes it at once, and callbacks that wait are dropped
        /// where they stand.
        ///
        /// The application can still send while a connection ends. At a shutdown, and when the peer ended
        /// only its output, it has half of this time. After the peer's Close frame it has 50 ms, anew with
        /// each message that it takes, because that frame should be answered soon.
        pub fn close_timeout(self, timeout: ::std::time::Duration) -> Self {
            self.set_config(|config| config.close_timeout = timeout)
        }

        /// Connections at a time, over all clones of this layer; further clients get 503 with
        /// `Retry-After`. Default `None`, no limit: the right number depends on the machine.
        /// Zero refuses every client.
        pub fn max_connections(self, connections: impl Into<Option<usize>>) -> Self {
            let connections = connections.into();
            self.set(|options| {
                options.limit = $crate::service::limit::ConnectionLimit::new(
                    connections,
                    options.limit.most_per_ip(),
                );
            })
        }

        /// Connections at a time of one client, over all clones of this layer; further ones get 429
        /// with `Retry-After`. Default `None`, no limit: many may share an address. Zero refuses every
        /// client.
        ///
        /// A client is an IPv4 address, or an IPv6 network of 64 bits. The limit needs the address of
        /// the peer, see [`peer_addr`](Self::peer_addr), and behind proxies
        /// [`trusted_proxies`](Self::trusted_proxies). All clients whose address is not known count as
        /// one, and the first of them causes a line at ERROR that says what is missing.
        ///
        /// ```
        /// # use tower_websocket::{TrustedProxies, WebSocketHandler, WebSocketLayer};
        /// # #[derive(Clone)] struct Chat;
        /// # impl WebSocketHandler for Chat {}
        /// let layer = WebSocketLayer::new("/chat", Chat)
        ///     .trusted_proxies(TrustedProxies::x_forwarded_for(["10.0.0.0/8"]))
        ///     .max_connections_per_ip(20)
        ///     .max_connections(10_000);
        /// # drop(layer);
        /// ```
        pub fn max_connections_per_ip(self, connections: impl Into<Option<usize>>) -> Self {
            let connections = connections.into();
            self.set(|options| {
                options.limit =
                    $crate::service::limit::ConnectionLimit::new(options.limit.most(), connections);
            })
        }

        /// The proxies whose headers state the address of the client. Default `None`: the client is
        /// the peer.
        ///
        /// It needs the address of the peer, see [`peer_addr`](Self::peer_addr), to know which proxy a
        /// request comes from. Without one no header is read, and the first such handshake causes a
        /// line at ERROR that says what is missing.
        pub fn trusted_proxies(self, proxies: impl Into<Option<$crate::TrustedProxies>>) -> Self {
            let proxies = proxies.into();
            self.set(|options| options.proxies = proxies)
        }

        /// Replaces how the layer finds the address of the peer in a request, for the log,
        /// [`Connection::peer_addr`](crate::Connection::peer_addr), [`trusted_proxies`](Self::trusted_proxies) and
        /// [`max_connections_per_ip`](Self::max_connections_per_ip).
        ///
        /// Default: the `SocketAddr` in the extensions of the request; with the feature `axum`, if
        /// there is none, axum's `ConnectInfo<SocketAddr>`. So most servers need no call of this
        /// method. With axum, serve
        ///
        /// ```no_run
        /// # use std::net::SocketAddr;
        /// # async fn serve(listener: tokio::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
        /// axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
        /// # }
        /// ```
        ///
        /// With hyper, insert the address where a connection is accepted:
        ///
        /// ```
        /// # use std::net::SocketAddr;
        /// # use http::Request;
        /// # use hyper::{body::Incoming, service::{Service, service_fn}};
        /// # fn accepted<S>(service: S, peer: SocketAddr) -> impl Service<Request<Incoming>>
        /// # where S: Service<Request<Incoming>, Response = http::Response<String>, Error = std::io::Error> {
        /// // let (socket, peer) = listener.accept().await?;
        /// let service = service_fn(move |mut request: Request<Incoming>| {
        ///     request.extensions_mut().insert(peer);
        ///     service.call(request)
        /// });
        /// # service
        /// # }
        /// ```
        ///
        /// Any function of the request will do; it runs once for each WebSocket handshake, before the
        /// limits are checked. `None` means that the address is not known.
        ///
        /// ```
        /// # use std::{collections::HashMap, net::SocketAddr};
        /// # use tower_websocket::{WebSocketHandler, WebSocketLayer};
        /// # #[derive(Clone)] struct Chat;
        /// # impl WebSocketHandler for Chat {}
        /// /// Left in the extensions by a listener that reads the PROXY protocol.
        /// #[derive(Clone, Copy)]
        /// struct Origin(SocketAddr);
        ///
        /// let layer = WebSocketLayer::new("/chat", Chat)
        ///     .peer_addr(|request| Some(request.extensions.get::<Origin>()?.0));
        /// # drop(layer);
        /// ```
        pub fn peer_addr(
            self,
            find: impl Fn(&::http::request::Parts) -> Option<::std::net::SocketAddr>
            + Send
            + Sync
            + 'static,
        ) -> Self {
            self.set(|options| options.peer = $crate::service::peer::PeerFinder::new(find))
        }

        /// Decides about each handshake before the application does, in every style: of a handler
        /// ([`new`](crate::WebSocketLayer::new)), of a function ([`from_fn`](crate::WebSocketLayer::from_fn)), of a
        /// stream ([`stream`](crate::WebSocketLayer::stream)). Default: the layer accepts every valid handshake.
        ///
        /// The function gets the [`Handshake`](crate::Handshake): it can refuse, choose a subprotocol,
        /// add headers to the response, and insert values into the extensions of the request, where the
        /// application finds them. It runs after the checks of the layer (origin, hosts, limits) and
        /// before the handler's own [`on_upgrade`](crate::WebSocketHandler::on_upgrade), which is not
        /// called if the function refuses. Both together have the
        /// [`upgrade_timeout`](Self::upgrade_timeout); a panic is answered with 500. Every handshake
        /// costs one allocation for it.
        ///
        /// State is captured: see [`UpgradeFn`](crate::UpgradeFn) for the forms of a closure, and
        /// [`upgrade_fn`](crate::upgrade_fn) for one that borrows the handshake.
        ///
        /// ```
        /// use http::StatusCode;
        /// use tower_websocket::{Connection, Handshake, Rejection, WebSocketLayer};
        ///
        /// #[derive(Clone)]
        /// struct User(String);
        ///
        /// async fn check(handshake: &mut Handshake) -> Result<(), Rejection> {
        ///     let token = handshake.request().headers.get("authorization");
        ///     let user = match token.map(|token| token.as_bytes()) {
        ///         Some(b"Bearer ada-token") => User("Ada".to_owned()),
        ///         _ => return Err(Rejection::new(StatusCode::UNAUTHORIZED, "log in first")),
        ///     };
        ///     handshake.extensions_mut().insert(user);
        ///     Ok(())
        /// }
        ///
        /// let layer = WebSocketLayer::from_fn("/hello", |conn: Connection| async move {
        ///     let user = conn.request().extensions.get::<User>().ok_or("no user")?;
        ///     conn.send(format!("hello {}", user.0)).await?;
        ///     Ok(())
        /// })
        /// .on_upgrade(check);
        /// # drop(layer);
        /// ```
        pub fn on_upgrade<F>(self, check: F) -> Self
        where
            F: for<'a> $crate::UpgradeFn<'a>,
        {
            self.set(|options| options.on_upgrade = Some($crate::handler::upgrade_check(check)))
        }

        /// Logs messages and control frames on the target `tower_websocket::wire` at DEBUG instead of
        /// TRACE; payloads are shortened and escaped. Default `false`.
        ///
        /// An alias for those who come from websocket-rack's `:backend => { :debug => true }`: the
        /// directive `tower_websocket::wire=trace` of a `tracing` filter shows the same lines without
        /// it.
        pub fn debug(self, debug: bool) -> Self {
            self.set_config(|config| config.debug = debug)
        }

        /// Answers requests under the mount that are not WebSocket handshakes with 426, instead of
        /// passing them to the inner service; and requests whose path can be read in different ways
        /// (see [Mounting](Self#mounting)) with 400. Default: the inner service gets both.
        pub fn require_upgrade(self) -> Self {
            self.set_config(|config| config.require_upgrade = true)
        }

        /// Whether to keep the request for [`Connection::request`](crate::Connection::request). Default `true`; it costs
        /// about as much memory as the headers are long. With `false`, `request` is an empty one
        /// during the whole connection; `on_upgrade` sees it all the same.
        ///
        /// The head is kept in a copy. Its extensions are kept as they are, and one that holds a
        /// slice of the request, such as a `HeaderValue` or a `Uri` that a layer in front has cloned,
        /// keeps the server's whole read buffer alive: 8 KiB, and more where the head was larger. axum's
        /// `OriginalUri` is such a slice, and every `Router` inserts it. With the feature `axum` it is
        /// copied, too; others can be copied or removed in
        /// [`on_upgrade`](crate::WebSocketHandler::on_upgrade), with
        /// [`Handshake::request_mut`](crate::Handshake::request_mut).
        pub fn keep_request(self, keep: bool) -> Self {
            self.set_config(|config| config.keep_request = keep)
        }

        /// Whether to list the connections for [`connections`](Self::connections) and to count their
        /// messages and bytes. Default `true`: it costs less than a hundredth of the time of a small
        /// message. With `false` the connections are still [counted](crate::Connections::count), and
        /// drained.
        pub fn track_connections(self, track: bool) -> Self {
            self.set_config(|config| config.track_connections = track)
        }

        /// The live connections, to look at them and to close them: of all clones of this layer and of
        /// every other with the same [`shutdown`](Self::shutdown); call it after that.
        pub fn connections(&self) -> $crate::Connections {
            $crate::Connections::new(&self.options.shutdown)
        }

        /// A service for the readiness probe of a load balancer: 503 when a drain has begun, or when 95 %
        /// of [`max_connections`](Self::max_connections) are taken. Call it when both are set.
        /// [`Readiness::topics`](crate::Readiness::topics) adds a node that is cut off from the others.
        pub fn readiness(&self) -> $crate::Readiness {
            $crate::service::readiness::Readiness::new(&self.options.shutdown, &self.options.limit)
        }

        /// Compresses messages with clients that offer permessage-deflate (RFC 7692), as browsers do.
        /// Default `None`, off. Needs the feature `deflate`.
        ///
        /// Limits are on what messages are when they are inflated: see
        /// [`max_message_size`](Self::max_message_size) and [`Deflate::max_ratio`](crate::Deflate::max_ratio). Do not compress
        /// secrets together with text that a stranger can choose: the compressed length reveals them (as
        /// "BREACH" does over HTTP).
        ///
        /// An application of [`stream`](crate::WebSocketLayer::stream) is not affected: tungstenite cannot
        /// compress, so nothing is agreed.
        #[cfg(feature = "deflate")]
        pub fn deflate(self, deflate: impl Into<Option<$crate::Deflate>>) -> Self {
            let deflate = deflate.into();
            self.set(|options| options.deflate = deflate)
        }

        /// Bytes that a peer's compressed messages may inflate to in one second, which bounds the CPU time
        /// of inflating them. Default `None`: only [`max_message_size`](Self::max_message_size) limits each
        /// message. More closes the connection with 1008. Zero counts as 1.
        ///
        /// A token bucket, as [`max_messages_per_second`](Self::max_messages_per_second), which holds at
        /// least one message of the largest size and 64 KiB. A final DEFLATE block counts as 2 KiB, because
        /// the decompressor starts anew after it.
        #[cfg(feature = "deflate")]
        pub fn max_inflated_bytes_per_second(self, bytes: impl Into<Option<u64>>) -> Self {
            let bytes = bytes.into();
            self.set_config(|config| config.max_inflated_rate = bytes)
        }

        fn set_config(self, change: impl FnOnce(&mut $crate::config::Config)) -> Self {
            self.set(|options| change(::std::sync::Arc::make_mut(&mut options.config)))
        }
    };
}

pub(super) use option_setters;

use std::time::Duration;

/// Zero is no duration that anything could keep to: where there may be none, it is none.
pub(super) fn unless_zero(duration: Option<Duration>) -> Option<Duration> {
    duration.filter(|duration| !duration.is_zero())
}

/// Where there must be one, it is a second.
pub(super) fn not_zero(duration: Duration) -> Duration {
    unless_zero(Some(duration)).unwrap_or(Duration::from_secs(1))
}
