//! tonic beside a WebSocket on one port.

use bytes::{Buf, BufMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::*;

/// Messages are text, so that nothing has to be generated.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, output: &mut EncodeBuf<'_>) -> Result<(), Status> {
        output.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = input.copy_to_bytes(input.remaining());
        Ok(Some(String::from_utf8(bytes.to_vec()).unwrap()))
    }
}

#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "test.Greeter";
}

impl Service<Request<tonic::body::Body>> for Greeter {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let greet = tower::service_fn(async |name: tonic::Request<String>| {
            let text = format!("hello {}", name.into_inner());
            Ok::<_, Status>(tonic::Response::new(text))
        });
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).unary(greet, request).await) })
    }
}

async fn greet(sender: &http2::SendRequest<ClientBody>) -> String {
    let send = tower::service_fn(|request: Request<tonic::body::Body>| {
        let mut sender = sender.clone();
        async move {
            sender
                .send_request(request.map(BodyExt::boxed_unsync))
                .await
        }
    });
    let origin = "http://localhost".parse().unwrap();
    let mut client = tonic::client::Grpc::with_origin(send, origin);
    client.ready().await.unwrap();
    let path = "/test.Greeter/Greet".parse().unwrap();
    let request = tonic::Request::new("Ada".to_owned());
    let response = within(client.unary(request, path, Text)).await.unwrap();
    response.into_inner()
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_and_websockets_share_a_port_and_over_http2_a_connection() {
    let tonic = Routes::new(Greeter);
    for service in [
        erase(websocket().layer(tonic.clone().prepare())),
        erase(tonic.clone().into_axum_router().layer(websocket())),
        erase(UpgradeGuardLayer::new().layer(websocket().layer(tonic.prepare()))),
    ] {
        let mut peer = Peer::connect(Version::Http2, service.clone()).await;
        let Peer::Http2(sender) = &peer else {
            unreachable!()
        };
        let sender = sender.clone();
        assert_eq!(greet(&sender).await, "hello Ada");
        let mut socket = peer.open().await.unwrap();
        echoes(&mut socket, "over HTTP/2").await;
        assert_eq!(greet(&sender).await, "hello Ada");
        echoes(&mut socket, "still").await;

        let mut socket = Peer::connect(Version::Http1, service).await.open().await;
        echoes(socket.as_mut().unwrap(), "over HTTP/1.1").await;
    }
}
