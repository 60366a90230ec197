//! [`Fault`]: everything a client does wrong here, and what has to follow.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::arena::{Arena, add};
use crate::client::{Ask, Client, Got, PATIENCE, request};
use crate::codec;
use crate::deflate::deflate;

/// One kind of misbehaviour.
pub struct Fault {
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Sends these bytes in an open connection, and is closed with this code.
    Breaks(&'static [u8], u16),
    /// Sends these lines in its handshake, and gets this status.
    Refused(&'static str, &'static str),
    Stall,
    ReadByBytes,
    NoPong,
    HalfClose,
    Fin,
    FinInFrame,
    Reset,
    ResetInFrame,
    Garbage,
    Oversized,
    Bomb,
    Unmasked,
    Slowloris,
    SlowFragments,
    EmptyFragments,
    PingFlood,
    PingFloodUnread,
    VanishInHandshake,
    VanishBehindHandshake,
    SlowHandshake,
    GarbageHandshake,
    Http2Dropped,
    Storm,
}

const fn fault(name: &'static str, kind: Kind) -> Fault {
    Fault { name, kind }
}

/// Masks of zeros, so that the bytes can be read here.
pub const FAULTS: &[Fault] = &[
    fault("unmasked frame", Kind::Unmasked),
    fault("reserved opcode", Kind::Breaks(b"\x83\x80\0\0\0\0", 1002)),
    fault("reserved bit", Kind::Breaks(b"\xA1\x80\0\0\0\0", 1002)),
    fault("fragmented ping", Kind::Breaks(b"\x09\x80\0\0\0\0", 1002)),
    fault(
        "orphan continuation",
        Kind::Breaks(b"\x80\x80\0\0\0\0", 1002),
    ),
    fault(
        "Close of one byte",
        Kind::Breaks(b"\x88\x81\0\0\0\0x", 1002),
    ),
    fault(
        "Close with 1005",
        Kind::Breaks(b"\x88\x82\0\0\0\0\x03\xED", 1002),
    ),
    fault(
        "bad UTF-8",
        Kind::Breaks(b"\x81\x83\0\0\0\0a\xFF\xFE", 1007),
    ),
    fault("oversized", Kind::Oversized),
    fault("compression bomb", Kind::Bomb),
    fault("flood of empty fragments", Kind::EmptyFragments),
    fault("garbage", Kind::Garbage),
    fault("ping flood", Kind::PingFlood),
    fault("ping flood, unread", Kind::PingFloodUnread),
    fault("never reads", Kind::Stall),
    fault("reads a byte a second", Kind::ReadByBytes),
    fault("never pongs", Kind::NoPong),
    fault("a byte a second", Kind::Slowloris),
    fault("fragments of one byte", Kind::SlowFragments),
    fault("half-close", Kind::HalfClose),
    fault("leaves without Close", Kind::Fin),
    fault("leaves inside a frame", Kind::FinInFrame),
    fault("reset", Kind::Reset),
    fault("reset inside a frame", Kind::ResetInFrame),
    fault("vanishes in its handshake", Kind::VanishInHandshake),
    fault("vanishes behind it", Kind::VanishBehindHandshake),
    fault("slow handshake", Kind::SlowHandshake),
    fault("garbage as a handshake", Kind::GarbageHandshake),
    fault(
        "foreign origin",
        Kind::Refused(
            "Origin: https://evil.example\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "403",
        ),
    ),
    fault(
        "version 12",
        Kind::Refused(
            "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "426",
        ),
    ),
    fault(
        "bad key",
        Kind::Refused(
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n",
            "400",
        ),
    ),
    fault("HTTP/2 connection dropped", Kind::Http2Dropped),
    fault("reconnect storm of 50", Kind::Storm),
];

/// The thousand of the hostile run are these, in equal parts.
pub const HOSTILE: [&str; 5] = [
    "ping flood, unread",
    "a byte a second",
    "fragments of one byte",
    "never reads",
    "compression bomb",
];

/// The longest deadline of the server: 30 s, a second for each KiB of the last 64 that its kernel
/// took, and the time in which a peer that reads 16 kB/s reads what the kernels hold, 256 KiB
/// with the buffers that [`serve`](crate::server::serve) and a narrow client ask for.
const DROPPED: Duration = Duration::from_secs(150);

impl Fault {
    pub fn named(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| fault.name == name)
    }

    /// Does it, and looks at what the server makes of it.
    pub async fn commit(&self, arena: &Arc<Arena>) -> Result<(), String> {
        match self.kind {
            Kind::Breaks(bytes, code) => {
                let mut client = open(arena).await?;
                client.send(bytes);
                client.expect_close(code, PATIENCE).await
            }
            Kind::Unmasked => {
                let mut client = open(arena).await?;
                client.send(&codec::unmasked(0x81, b"no mask"));
                client.expect_close(1002, PATIENCE).await
            }
            Kind::Oversized => {
                let mut client = open(arena).await?;
                client.send(&codec::header(0x82, true, 2 << 20));
                client.expect_close(1009, PATIENCE).await
            }
            Kind::Bomb => bomb(arena).await,
            Kind::EmptyFragments => {
                let mut client = open(arena).await?;
                client.frame(0x01, b"");
                for _ in 0..20_000 {
                    client.frame(0x00, b"");
                }
                client.expect_close(1008, PATIENCE).await
            }
            Kind::Garbage => garbage(arena).await,
            Kind::PingFlood => {
                let mut client = open(arena).await?;
                for n in 0..200u16 {
                    client.frame(0x89, &n.to_be_bytes());
                }
                client.expect_close(1008, PATIENCE).await
            }
            Kind::PingFloodUnread => {
                write_on(arena, |client| {
                    for n in 0..100u16 {
                        client.frame(0x89, &n.to_be_bytes());
                    }
                })
                .await
            }
            Kind::Stall => {
                let payload = vec![b'x'; 64 * 1024];
                write_on(arena, |client| client.frame(0x81, &payload)).await
            }
            Kind::ReadByBytes => read_by_bytes(arena).await,
            // 5 s of silence, 20 s for the pong.
            Kind::NoPong => open(arena).await?.expect_close(1011, DROPPED).await,
            Kind::Slowloris => {
                let mut client = open(arena).await?;
                client.send(&codec::header(0x81, true, 1000));
                client.send(&[0; 4]);
                trickle(client, b"x", Duration::from_secs(1)).await
            }
            Kind::SlowFragments => {
                let mut client = open(arena).await?;
                client.frame(0x01, b"x");
                trickle(client, b"\x00\x81\0\0\0\0x", Duration::from_millis(250)).await
            }
            Kind::HalfClose => {
                let mut client = open(arena).await?;
                for _ in 0..3 {
                    client.frame(0x82, &[7; 1000]);
                }
                client.half_close().await;
                expect_echoes(&mut client, 3).await
            }
            Kind::Fin => {
                let mut client = open(arena).await?;
                client.frame(0x82, &[7; 1000]);
                let deadline = Instant::now() + PATIENCE;
                while !matches!(client.next(deadline).await?, Some(Got::Binary(_))) {
                    if Instant::now() > deadline {
                        return Err("no echo".into());
                    }
                }
                Ok(())
            }
            Kind::FinInFrame => {
                let mut client = open(arena).await?;
                client.send(&codec::header(0x81, true, 1000));
                client.send(&[7; 300]);
                client.half_close().await;
                expect_echoes(&mut client, 0).await
            }
            Kind::Reset | Kind::ResetInFrame => {
                let ask = Ask {
                    reset: true,
                    ..Ask::default()
                };
                let mut client = arena.join(ask).await?;
                client.frame(0x82, &[7; 1000]);
                if matches!(self.kind, Kind::ResetInFrame) {
                    client.send(&codec::header(0x81, true, 1000));
                    client.send(&[7; 300]);
                }
                // Whether the server is still there matters to nobody now.
                let _ = client.flush(Instant::now() + PATIENCE).await;
                Ok(())
            }
            Kind::VanishInHandshake | Kind::VanishBehindHandshake => {
                let mut client = arena.connect(Ask::default()).await?;
                let head = request(Ask::default());
                let n = match self.kind {
                    Kind::VanishBehindHandshake => head.len(),
                    _ => client.random.between(1, head.len() as u64) as usize,
                };
                client.send(&head.as_bytes()[..n]);
                let _ = client.flush(Instant::now() + PATIENCE).await;
                sleep(Duration::from_millis(client.random.between(0, 50))).await;
                Ok(())
            }
            Kind::SlowHandshake => slow_handshake(arena).await,
            Kind::GarbageHandshake => {
                let mut client = arena.connect(Ask::default()).await?;
                let garbage = client.random.bytes(200);
                client.send(&garbage);
                client.send(b"\r\n\r\n");
                client.expect_end(PATIENCE).await
            }
            Kind::Refused(headers, status) => {
                let ask = Ask {
                    headers: Some(headers),
                    ..Ask::default()
                };
                let mut client = arena.connect(ask).await?;
                client.send(request(ask).as_bytes());
                let head = client.head().await?;
                if head.split(' ').nth(1) == Some(status) {
                    Ok(())
                } else {
                    Err(format!("not {status}: {head:?}"))
                }
            }
            Kind::Http2Dropped => {
                let ask = Ask {
                    http2: true,
                    ..Ask::default()
                };
                let mut client = arena.join(ask).await?;
                client.frame(0x82, &[7; 1000]);
                let _ = client.flush(Instant::now() + PATIENCE).await;
                Ok(())
            }
            Kind::Storm => storm(arena).await,
        }
    }
}

async fn open(arena: &Arena) -> Result<Client, String> {
    arena.join(Ask::default()).await
}

/// What was asked for before our side ended is answered, then the other side ends.
async fn expect_echoes(client: &mut Client, mut echoes: usize) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.next(deadline).await? {
            Some(Got::Binary(_)) if echoes > 0 => echoes -= 1,
            Some(Got::End { reset: false }) if echoes == 0 => return Ok(()),
            Some(Got::End { reset }) => {
                return Err(format!(
                    "{echoes} echoes missing at the end, reset: {reset}"
                ));
            }
            None => return Err(format!("{echoes} echoes missing, and no end")),
            Some(Got::Close(code)) => return Err(format!("Close {code:?}")),
            Some(_) => {}
        }
    }
}

async fn bomb(arena: &Arena) -> Result<(), String> {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    let bomb = BOMB.get_or_init(|| deflate(&vec![0; 4 << 20]));
    let ask = Ask {
        deflate: true,
        ..Ask::default()
    };
    let mut client = arena.join(ask).await?;
    client.frame(0xC2, bomb);
    client.expect_close(1009, PATIENCE).await
}

/// Anything at all: it may break a rule, or be half a frame, or even be right.
async fn garbage(arena: &Arena) -> Result<(), String> {
    let mut client = open(arena).await?;
    let garbage = client.random.bytes(500);
    client.send(&garbage);
    client.half_close().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.next(deadline).await? {
            Some(Got::Close(Some(1002 | 1007 | 1008 | 1009)))
            | Some(Got::Text(_) | Got::Pong(_)) => {}
            Some(Got::Binary(_) | Got::Ping(_)) => {}
            Some(Got::Close(code)) => return Err(format!("Close {code:?}")),
            Some(Got::End { .. }) => return Ok(()),
            None => return Err("no end".into()),
        }
    }
}

/// Writes as fast as the server takes it and reads nothing, until it is thrown out.
async fn write_on(arena: &Arena, mut write: impl FnMut(&mut Client)) -> Result<(), String> {
    let ask = Ask {
        narrow: true,
        ..Ask::default()
    };
    let mut client = arena.join(ask).await?;
    let deadline = Instant::now() + DROPPED;
    loop {
        write(&mut client);
        if client.flush(deadline).await.is_err() {
            break;
        }
        // Others want to run too.
        tokio::task::yield_now().await;
    }
    if Instant::now() < deadline {
        Ok(())
    } else {
        Err(format!("still there after {DROPPED:?}"))
    }
}

async fn read_by_bytes(arena: &Arena) -> Result<(), String> {
    let ask = Ask {
        narrow: true,
        ..Ask::default()
    };
    let mut client = arena.join(ask).await?;
    let payload = vec![b'x'; 64 * 1024];
    // Until nothing more goes out.
    loop {
        client.frame(0x81, &payload);
        let soon = Instant::now() + Duration::from_secs(1);
        if client.flush(soon).await.is_err() {
            break;
        }
    }
    let deadline = Instant::now() + DROPPED;
    while Instant::now() < deadline {
        if client.is_flushed() {
            // A reset is met by what is written: what had arrived before can be read for hours.
            client.frame(0x81, &payload);
        }
        if client.sip(1, deadline).await.is_err() {
            return Ok(());
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err(format!("still there after {DROPPED:?}"))
}

/// Sends `bytes` again and again, and is closed with 1008.
async fn trickle(mut client: Client, bytes: &[u8], every: Duration) -> Result<(), String> {
    let deadline = Instant::now() + DROPPED;
    let mut send = Instant::now() + every;
    while Instant::now() < deadline {
        match client.next(send).await? {
            None => {
                client.send(bytes);
                send += every;
            }
            Some(Got::Close(Some(1008))) => return client.expect_end(PATIENCE).await,
            Some(Got::Close(code)) => return Err(format!("Close {code:?}")),
            Some(Got::End { reset }) => return Err(format!("ended, reset: {reset}")),
            Some(_) => {}
        }
    }
    Err(format!("no Close 1008 within {DROPPED:?}"))
}

async fn slow_handshake(arena: &Arena) -> Result<(), String> {
    let mut client = arena.connect(Ask::default()).await?;
    let head = request(Ask::default());
    for byte in head.bytes() {
        client.send(&[byte]);
        let soon = Instant::now() + Duration::from_millis(250);
        // Where the time of the server ends: 408, or nothing.
        if client.sip(1024, soon).await.is_err() {
            return Ok(());
        }
    }
    Err("all of it was taken".into())
}

/// Many at the same moment, as after a restart.
async fn storm(arena: &Arc<Arena>) -> Result<(), String> {
    let mut all = JoinSet::new();
    for _ in 0..50 {
        let arena = arena.clone();
        all.spawn(async move {
            let mut client = open(&arena).await?;
            client.frame(0x81, b"am I in?");
            client.close(1000);
            client.expect_close(1000, PATIENCE).await?;
            add(&arena.count.visits, 1);
            Ok::<_, String>(())
        });
    }
    let mut result = Ok(());
    while let Some(one) = all.join_next().await {
        result = result.and(one.unwrap_or_else(|e| Err(e.to_string())));
    }
    result
}
