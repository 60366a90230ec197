//! Models of what runs at the same time: the driver of a connection, senders, a closer, a peer,
//! and a shutdown. shuttle runs each model many times, and switches between its tasks at every
//! lock, atomic and wake-up; it finds what no test of real threads would, and it sees deadlocks.
//!
//! The driver, the queue, the session and the shutdown are the real ones. Only the socket is a
//! pipe made here, and time stands still. Run by `tests/tools/models.sh`:
//!
//!     RUSTFLAGS="--cfg shuttle" cargo test --release --lib models
//!
//! `MODEL_RUNS` is how often each model runs (default 2,000).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::driver::Driver;
use super::task::drive;
use crate::close::{CloseCause, CloseCode, CloseEvent};
use crate::config::Config;
use crate::connection::{ABORT, ASKED, Connection, Info, Link, OUTPUT, Sender, Signals};
use crate::handler::{Result, WebSocketHandler};
use crate::message::Message;
use crate::shutdown::{Member, Shutdown};
use crate::topics::{Retain, Subscribe, SubscribeError, Topics};

/// Runs a model under a scheduler of chance, and under one that prefers rare orders.
fn check(model: impl Fn() + Send + Sync + Copy + 'static) {
    let runs = std::env::var("MODEL_RUNS").map_or(2_000, |runs| runs.parse().unwrap());
    // The timers of the driver need a clock to be registered with; nobody drives it.
    let clock = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = clock.enter();
    shuttle::check_random(model, runs);
    shuttle::check_pct(model, runs, 3);
}

/// One direction of a socket that holds few bytes.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Less than a message, so that every write is partial and the queue fills.
const ROOM: usize = 5;

/// A socket, seen from one of its ends.
struct Socket {
    input: Arc<Mutex<Pipe>>,
    output: Arc<Mutex<Pipe>>,
}

fn socket() -> (Socket, Socket) {
    let (a, b): (Arc<Mutex<Pipe>>, Arc<Mutex<Pipe>>) = Default::default();
    let one = Socket {
        input: a.clone(),
        output: b.clone(),
    };
    (
        one,
        Socket {
            input: b,
            output: a,
        },
    )
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.input.lock().unwrap();
        let n = pipe.bytes.len().min(buffer.remaining());
        if n == 0 && !pipe.closed {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(&pipe.bytes[..n]);
        pipe.bytes.drain(..n);
        wake(&mut pipe.writer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.output.lock().unwrap();
        let n = bytes.len().min(ROOM - pipe.bytes.len());
        if n == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend_from_slice(&bytes[..n]);
        wake(&mut pipe.reader);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.output.lock().unwrap();
        pipe.closed = true;
        wake(&mut pipe.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        for pipe in [&self.input, &self.output] {
            let mut pipe = pipe.lock().unwrap();
            pipe.closed = true;
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }
}

/// Counts what it is told.
#[derive(Clone, Default)]
struct Witness {
    opened: Arc<Mutex<u32>>,
    ended: Arc<Mutex<Vec<CloseCause>>>,
}

impl WebSocketHandler for Witness {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        *self.opened.lock().unwrap() += 1;
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.ended.lock().unwrap().push(event.cause());
        Ok(())
    }
}

/// A connection with a queue for two messages; its other end of the socket.
fn connection() -> (Arc<Link>, Driver<Socket>, Socket) {
    connection_in(&Topics::new())
}

fn connection_in(topics: &Topics) -> (Arc<Link>, Driver<Socket>, Socket) {
    let (link, driver, peer) = opening_in(topics);
    (link, driver(), peer)
}

/// The same, before it is open.
fn opening() -> (Arc<Link>, impl FnOnce() -> Driver<Socket>, Socket) {
    opening_in(&Topics::new())
}

fn opening_in(topics: &Topics) -> (Arc<Link>, impl FnOnce() -> Driver<Socket> + use<>, Socket) {
    let config = Arc::new(Config {
        queue_messages: 2,
        heartbeat: None,
        ..Config::default()
    });
    let link = Arc::new(Link::new(
        config.clone(),
        Info::of_nobody(),
        None,
        topics.clone(),
    ));
    let (ours, theirs) = socket();
    let to_open = link.clone();
    (link, || Driver::new(ours, to_open, config), theirs)
}

/// What a peer reads: the messages, and whether a Close frame came behind them.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    messages: Vec<String>,
    closed: bool,
}

/// Reads whole frames until the end of the stream, and answers a Close frame.
async fn listen(socket: Socket) -> Heard {
    listen_for(socket, usize::MAX).await
}

/// The same; closes when it has heard so many messages.
async fn listen_for(mut socket: Socket, enough: usize) -> Heard {
    let (mut bytes, mut heard) = (Vec::new(), Heard::default());
    loop {
        let mut piece = [0; 64];
        let mut buffer = ReadBuf::new(&mut piece);
        std::future::poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut buffer))
            .await
            .unwrap();
        if buffer.filled().is_empty() {
            assert!(bytes.is_empty(), "half a frame: {bytes:?}");
            return heard;
        }
        bytes.extend_from_slice(buffer.filled());
        while bytes.len() >= 2 && bytes.len() >= 2 + usize::from(bytes[1]) {
            let rest = bytes.split_off(2 + usize::from(bytes[1]));
            let frame = std::mem::replace(&mut bytes, rest);
            assert!(!heard.closed, "something behind the Close frame: {frame:?}");
            match frame[0] {
                0x81 => {
                    let text = String::from_utf8(frame[2..].to_vec()).unwrap();
                    heard.messages.push(text);
                    if heard.messages.len() == enough {
                        write(&mut socket, b"\x88\x80\0\0\0\0").await;
                    }
                }
                0x88 => {
                    heard.closed = true;
                    if heard.messages.len() < enough {
                        write(&mut socket, b"\x88\x80\0\0\0\0").await;
                    }
                }
                first => panic!("{first:#04x}"),
            }
        }
    }
}

async fn write(socket: &mut Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = std::future::poll_fn(|cx| {
            if socket.output.lock().unwrap().closed {
                return Poll::Ready(Ok(bytes.len()));
            }
            Pin::new(&mut *socket).poll_write(cx, bytes)
        });
        bytes = &bytes[written.await.unwrap()..];
    }
}

/// Sends numbered messages until it may not; those that were accepted.
async fn talk(sender: Sender, name: char, count: u32) -> Vec<String> {
    let mut accepted = Vec::new();
    for i in 0..count {
        let message = format!("{name}{i}");
        if sender.send(message.as_str()).await.is_err() {
            break;
        }
        accepted.push(message);
    }
    accepted
}

/// Of what was heard, what `name` said.
fn said(heard: &Heard, name: char) -> Vec<String> {
    let of_name = heard.messages.iter().filter(|m| m.starts_with(name));
    of_name.cloned().collect()
}

#[test]
fn a7_a8_what_was_accepted_is_heard_once_in_order_and_before_the_close_frame() {
    check(|| {
        block_on(async {
            let (link, driver, peer) = connection();
            let witness = Witness::default();
            let driving = spawn(drive(witness.clone(), driver));
            let hearing = spawn(listen(peer));
            let talking: Vec<_> = ['a', 'b', 'c']
                .map(|name| (name, spawn(talk(Sender::new(link.clone()), name, 3))))
                .into();
            let closer = Sender::new(link);
            yield_now().await;
            closer.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
            let heard = hearing.await.unwrap();
            driving.await.unwrap();
            assert!(heard.closed);
            for (name, talking) in talking {
                assert_eq!(said(&heard, name), talking.await.unwrap());
            }
            assert!(closer.is_closed());
            assert_eq!(*witness.opened.lock().unwrap(), 1);
            assert_eq!(*witness.ended.lock().unwrap(), [CloseCause::Application]);
        });
    });
}

#[test]
fn a7_without_an_end_every_message_of_every_sender_arrives() {
    check(|| {
        block_on(async {
            let (link, driver, peer) = connection();
            let driving = spawn(drive(Witness::default(), driver));
            let hearing = spawn(listen(peer));
            let talking =
                ['a', 'b', 'c'].map(|name| spawn(talk(Sender::new(link.clone()), name, 4)));
            for talking in talking {
                assert_eq!(talking.await.unwrap().len(), 4);
            }
            Sender::new(link)
                .close(CloseCode::NORMAL_CLOSURE, "")
                .unwrap();
            assert_eq!(hearing.await.unwrap().messages.len(), 12);
            driving.await.unwrap();
        });
    });
}

#[test]
fn a9_a_send_that_is_given_up_leaves_no_trace_and_takes_nobodys_turn() {
    check(|| {
        block_on(async {
            let (link, driver, peer) = connection();
            let driving = spawn(drive(Witness::default(), driver));
            let hearing = spawn(listen(peer));
            let sender = Sender::new(link.clone());
            let giving_up = spawn(async move {
                let mut accepted = Vec::new();
                for i in 0..4 {
                    let message = format!("x{i}");
                    let mut sending = pin!(sender.send(message.clone()));
                    // Polled twice, and then dropped wherever it stands.
                    let mut polls = 0;
                    let sent = std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
                        Poll::Ready(sent) => Poll::Ready(Some(sent)),
                        Poll::Pending if polls == 1 => Poll::Ready(None),
                        Poll::Pending => {
                            polls += 1;
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    });
                    if sent.await.is_some_and(|sent| sent.is_ok()) {
                        accepted.push(message);
                    }
                }
                accepted
            });
            let talking = ['a', 'b'].map(|name| spawn(talk(Sender::new(link.clone()), name, 3)));
            for talking in talking {
                assert_eq!(talking.await.unwrap().len(), 3);
            }
            let accepted = giving_up.await.unwrap();
            Sender::new(link)
                .close(CloseCode::NORMAL_CLOSURE, "")
                .unwrap();
            let heard = hearing.await.unwrap();
            assert_eq!(said(&heard, 'x'), accepted);
            assert_eq!(heard.messages.len(), 6 + accepted.len());
            driving.await.unwrap();
        });
    });
}

#[test]
fn a6_n8_when_the_peer_is_gone_every_sender_that_waits_is_told() {
    check(|| {
        block_on(async {
            let (link, driver, peer) = connection();
            let witness = Witness::default();
            let driving = spawn(drive(witness.clone(), driver));
            let talking =
                ['a', 'b', 'c'].map(|name| spawn(talk(Sender::new(link.clone()), name, 9)));
            yield_now().await;
            // It has read nothing.
            drop(peer);
            link.abort();
            for talking in talking {
                assert!(talking.await.unwrap().len() < 9);
            }
            driving.await.unwrap();
            assert_eq!(witness.ended.lock().unwrap().len(), 1);
        });
    });
}

#[test]
fn f32_a10_both_sides_close_and_messages_come_in_and_on_close_is_called_once() {
    check(|| {
        block_on(async {
            let (link, driver, mut peer) = connection();
            let witness = Witness::default();
            let driving = spawn(drive(witness.clone(), driver));
            let closing = spawn({
                let sender = Sender::new(link.clone());
                async move { sender.close(CloseCode::NORMAL_CLOSURE, "").is_ok() }
            });
            let hearing = spawn(async move {
                // "hi", then a Close frame.
                write(&mut peer, b"\x81\x82\0\0\0\0hi\x88\x80\0\0\0\0").await;
                listen(peer).await
            });
            let first = closing.await.unwrap();
            let heard = hearing.await.unwrap();
            driving.await.unwrap();
            assert!(heard.closed);
            let ended = witness.ended.lock().unwrap().clone();
            assert!(
                matches!(ended[..], [CloseCause::Application | CloseCause::Peer]),
                "{ended:?}"
            );
            assert!(first || ended == [CloseCause::Peer]);
        });
    });
}

/// What becomes of a connection whose 101 is being sent when the server goes down.
#[test]
fn a11_a_drain_reaches_a_connection_that_is_about_to_open() {
    check(|| {
        block_on(async {
            let shutdown = Shutdown::new();
            let (link, driver, peer) = opening();
            let member: Arc<dyn Member> = link.clone();
            let tracked = shutdown
                .track(link.info.id.as_u64(), Arc::downgrade(&member))
                .unwrap();
            let witness = Witness::default();
            let driving = spawn({
                let witness = witness.clone();
                async move {
                    let response = async {
                        yield_now().await;
                        yield_now().await;
                    };
                    assert!(link.unless_aborted(response).await.is_some());
                    tracked.opened();
                    drive(witness, driver()).await;
                    drop(tracked);
                }
            });
            let hearing = spawn(listen(peer));
            let drain = shutdown.drain(Duration::from_secs(60));
            assert_eq!(drain.spread(Duration::ZERO).await.closed(), 1);
            assert!(hearing.await.unwrap().closed);
            driving.await.unwrap();
            assert_eq!(*witness.ended.lock().unwrap(), [CloseCause::Shutdown]);
        });
    });
}

#[test]
fn a8_when_the_peer_closes_all_that_was_accepted_until_then_is_heard() {
    check(|| {
        block_on(async {
            let (link, driver, mut peer) = connection();
            let driving = spawn(drive(Witness::default(), driver));
            let talking =
                ['a', 'b'].map(|name| (name, spawn(talk(Sender::new(link.clone()), name, 5))));
            let hearing = spawn(async move {
                write(&mut peer, b"\x88\x80\0\0\0\0").await;
                listen(peer).await
            });
            let heard = hearing.await.unwrap();
            driving.await.unwrap();
            assert!(heard.closed);
            for (name, talking) in talking {
                assert_eq!(said(&heard, name), talking.await.unwrap());
            }
        });
    });
}

#[test]
fn a11_a13_a_drain_reaches_everybody_who_was_let_in_and_loses_nothing() {
    check(|| {
        block_on(async {
            let shutdown = Shutdown::new();
            let arriving: Vec<_> = ['a', 'b']
                .map(|name| {
                    let shutdown = shutdown.clone();
                    spawn(async move {
                        let (link, driver, peer) = connection();
                        let member: Arc<dyn Member> = link.clone();
                        let Some(tracked) =
                            shutdown.track(link.info.id.as_u64(), Arc::downgrade(&member))
                        else {
                            return None;
                        };
                        let driving = spawn(async move {
                            tracked.opened();
                            drive(Witness::default(), driver).await;
                            drop(tracked);
                        });
                        let hearing = spawn(listen(peer));
                        let accepted = talk(Sender::new(link), name, 3).await;
                        let heard = hearing.await.unwrap();
                        driving.await.unwrap();
                        assert_eq!(heard.messages, accepted);
                        assert!(heard.closed);
                        Some(())
                    })
                })
                .into();
            yield_now().await;
            let drain = shutdown
                .drain(Duration::from_secs(60))
                .spread(Duration::ZERO);
            let drained = drain.await;
            assert_eq!(drained.forced(), 0);
            assert_eq!(shutdown.connections(), 0);
            let mut let_in = 0;
            for arriving in arriving {
                let_in += usize::from(arriving.await.unwrap().is_some());
            }
            assert_eq!(drained.closed(), let_in);
        });
    });
}

/// The word that wakes the driver, alone: whoever gives a signal is heard, and at the end the driver
/// sleeps.
#[test]
fn no_signal_is_lost_between_the_last_look_and_the_sleep() {
    check(|| {
        block_on(async {
            let signals = Arc::new(Signals::new());
            let all = OUTPUT | ASKED | ABORT;
            let givers = [OUTPUT, ASKED, ABORT].map(|signal| {
                let signals = signals.clone();
                spawn(async move {
                    signals.give(signal);
                    yield_now().await;
                    signals.give(signal);
                })
            });
            let mut heard = 0;
            // A wake-up that is missed is a deadlock, which shuttle reports.
            poll_fn(|cx| {
                signals.set_driver(cx.waker());
                loop {
                    heard |= signals.take();
                    if heard == all {
                        return Poll::Ready(());
                    }
                    if signals.park() {
                        return Poll::Pending;
                    }
                }
            })
            .await;
            for giver in givers {
                giver.await.unwrap();
            }
            signals.take();
            assert!(signals.park() && signals.is_aborted());
        });
    });
}

/// While others publish and the queue is full again and again, a subscriber that comes with a position
/// gets what came behind it, once, in order; what is sent beside it gets its turn.
#[test]
fn t2_whoever_subscribes_while_others_publish_misses_nothing_and_gets_nothing_twice() {
    check(|| {
        block_on(async {
            let topics = Topics::builder().retain("", Retain::messages(9)).build();
            let start = topics.append("room", "m0").await.unwrap();
            let (link, driver, peer) = connection_in(&topics);
            let driving = spawn(drive(Witness::default(), driver));
            let hearing = spawn(listen_for(peer, 8));
            let publishers = ["a", "b"].map(|name| {
                let topic = topics.topic("room");
                spawn(async move {
                    for i in 0..3 {
                        topic.publish(format!("{name}{i}"));
                        yield_now().await;
                    }
                })
            });
            let talking = spawn(talk(Sender::new(link.clone()), 's', 2));
            let subscriber = spawn(async move {
                let how = Subscribe::new().after(start);
                assert!(link.subscribe("room", how).unwrap().recovered());
            });
            let heard = hearing.await.unwrap();
            for name in ['a', 'b'] {
                let all: Vec<_> = (0..3).map(|i| format!("{name}{i}")).collect();
                assert_eq!(said(&heard, name), all);
            }
            assert_eq!(said(&heard, 's'), talking.await.unwrap());
            for task in publishers {
                task.await.unwrap();
            }
            subscriber.await.unwrap();
            driving.await.unwrap();
            assert_eq!(topics.subscribers("room"), 0);
        });
    });
}

#[test]
fn t6_all_subscribers_get_the_messages_of_all_publishers_in_one_order() {
    check(|| {
        block_on(async {
            let topics = Topics::new();
            let hearing = [0, 1].map(|_| {
                let (link, driver, peer) = connection_in(&topics);
                link.subscribe("room", Subscribe::new()).unwrap();
                (
                    spawn(drive(Witness::default(), driver)),
                    spawn(listen_for(peer, 2)),
                )
            });
            for name in ["a", "b"] {
                let topics = topics.clone();
                spawn(async move { assert_eq!(topics.publish("room", name).delivered(), 2) });
            }
            let mut heard = Vec::new();
            for (driving, hearing) in hearing {
                heard.push(hearing.await.unwrap().messages);
                driving.await.unwrap();
            }
            assert_eq!(heard[0], heard[1]);
        });
    });
}

/// Subscribing, unsubscribing, publishing and the end of the connection at the same time.
#[test]
fn t5_of_a_connection_that_ends_while_it_subscribes_nothing_stays() {
    check(|| {
        block_on(async {
            let topics = Topics::new();
            let (link, driver, peer) = connection_in(&topics);
            let driving = spawn(drive(Witness::default(), driver));
            let hearing = spawn(listen(peer));
            let subscribing = spawn({
                let link = link.clone();
                async move {
                    for _ in 0..2 {
                        match link.subscribe("room", Subscribe::new()) {
                            Ok(_) | Err(SubscribeError::Closed) => {}
                            Err(error) => panic!("{error}"),
                        }
                        yield_now().await;
                        link.unsubscribe("room");
                        yield_now().await;
                        let _ = link.subscribe("other", Subscribe::new());
                    }
                }
            });
            let publishing = spawn({
                let topics = topics.clone();
                async move {
                    topics.publish("room", "x");
                    topics.publish("other", "y");
                }
            });
            link.close(crate::close::CloseFrame::known(
                CloseCode::NORMAL_CLOSURE,
                "",
            ));
            hearing.await.unwrap();
            driving.await.unwrap();
            subscribing.await.unwrap();
            publishing.await.unwrap();
            assert_eq!(topics.subscribers("room") + topics.subscribers("other"), 0);
            assert_eq!(format!("{topics:?}"), "Topics { topics: 0, .. }");
        });
    });
}
