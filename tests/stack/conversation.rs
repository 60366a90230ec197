//! Random conversations, as they should be and damaged. Rows X2 and X3.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// A message in its fragments, with the pings that come before some of them.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    payload: Vec<u8>,
    /// Where it is cut, as parts of 256 of its length; and whether a ping comes before.
    cuts: Vec<(u8, bool)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let size = prop_oneof![4 => 0..200usize, 2 => 0..5_000usize, 1 => 0..200_000usize];
    let cuts = prop::collection::vec((any::<u8>(), prop::bool::weighted(0.1)), 0..20);
    (any::<bool>(), size, any::<u8>(), cuts).prop_map(|(text, size, seed, mut cuts)| {
        cuts.sort_unstable();
        let payload = if text {
            let characters = ['a', 'ü', '世', '🦀', ' '];
            let text = (usize::from(seed)..).map(|i| characters[i * 7 % 5]);
            text.take(size / 3).collect::<String>().into_bytes()
        } else {
            (0..size).map(|i| (i * 31) as u8 ^ seed).collect()
        };
        Sent {
            text,
            payload,
            cuts,
        }
    })
}

impl Sent {
    fn opcode(&self) -> u8 {
        if self.text { 1 } else { 2 }
    }

    /// Appends its frames; the pings among them count on.
    fn write(&self, bytes: &mut Vec<u8>, pings: &mut u8) {
        let mut at = 0;
        for (i, (cut, ping)) in self.cuts.iter().enumerate() {
            if *ping {
                *pings += 1;
                bytes.extend(frame(0x89, &[*pings]));
            }
            let end = self.payload.len() * usize::from(*cut) / 256;
            let opcode = if i == 0 { self.opcode() } else { 0 };
            bytes.extend(frame(opcode, &self.payload[at..end]));
            at = end;
        }
        let opcode = if self.cuts.is_empty() {
            self.opcode()
        } else {
            0
        };
        bytes.extend(frame(0x80 | opcode, &self.payload[at..]));
    }
}

/// Sends the bytes in pieces, then the end; gives all frames that come back.
async fn exchange(stack: &Stack<Recorder>, bytes: Vec<u8>, pieces: Vec<usize>) -> Vec<Frame> {
    let (mut input, mut output) = tokio::io::split(stack.open().await.io);
    let writing = tokio::spawn(async move {
        let (mut rest, mut pieces) = (&bytes[..], pieces.iter().cycle());
        while !rest.is_empty() {
            let n = (*pieces.next().unwrap()).min(rest.len());
            if output.write_all(&rest[..n]).await.is_err() {
                return; // the server has closed
            }
            rest = &rest[n..];
            tokio::task::yield_now().await;
        }
        let _ = output.shutdown().await;
    });
    let mut received = Vec::new();
    let _ = within(input.read_to_end(&mut received)).await;
    within(writing).await.unwrap();
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((frame, n)) = parse(&received[at..], false).unwrap() {
        frames.push(frame);
        at += n;
    }
    assert_eq!(at, received.len(), "half a frame from the server");
    frames
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1..20usize, 20..3_000usize, 3_000..100_000usize];
    prop::collection::vec(size, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn x2_a_valid_conversation_comes_back_whole_and_in_order(
        messages in prop::collection::vec(sent(), 1..6),
        pieces in pieces(),
    ) {
        run(async {
            let (stack, recorder) = Stack::recorded();
            let (mut bytes, mut pings) = (Vec::new(), 0);
            messages.iter().for_each(|message| message.write(&mut bytes, &mut pings));
            bytes.extend(close(1000, ""));
            let mut frames = exchange(&stack, bytes, pieces).await;
            let closed = frames.pop().unwrap();
            assert_eq!((closed.first, &closed.payload[..]), (0x88, &[0x03, 0xE8][..]));
            let (pongs, echoes): (Vec<_>, Vec<_>) = frames.into_iter().partition(|f| f.first == 0x8A);
            // Pings that arrive together may have one answer, to the last (RFC 6455 §5.5.3).
            let answered: Vec<u8> = pongs.iter().map(|pong| pong.payload[0]).collect();
            assert!(answered.is_sorted_by(|a, b| a < b), "{answered:?}");
            assert_eq!(answered.last().copied().unwrap_or(0), pings);
            assert_eq!(echoes.len(), messages.len());
            for (echo, message) in echoes.iter().zip(&messages) {
                assert_eq!(echo.first, 0x80 | message.opcode());
                assert!(echo.payload == message.payload);
            }
            let log = recorder.closed().await;
            assert_eq!(log.len(), messages.len() + 2);
            assert_eq!(log.last().unwrap(), "close 1000 Peer clean");
        });
    }

    #[test]
    fn x3_a_damaged_conversation_is_echoed_or_closed_with_a_code(
        messages in prop::collection::vec(sent(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
        pieces in pieces(),
    ) {
        run(async {
            let (stack, recorder) = Stack::recorded();
            let (mut bytes, mut pings) = (Vec::new(), 0);
            messages.iter().for_each(|message| message.write(&mut bytes, &mut pings));
            for (index, byte, how) in damage {
                let at = index.index(bytes.len());
                match how {
                    0 => bytes[at] ^= byte,
                    1 => bytes.insert(at, byte),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            // Another connection is none the worse.
            let mut other = stack.open().await;
            let frames = exchange(&stack, bytes, pieces).await;
            for frame in &frames {
                match frame.first {
                    0x81 => drop(std::str::from_utf8(&frame.payload).unwrap()),
                    0x82 | 0x8A => {}
                    0x88 => {
                        let code = frame.close_code();
                        let ours = [1002, 1007, 1008, 1009];
                        let peers = |code| (1000..5000).contains(&code);
                        assert!(code.is_none_or(|c| ours.contains(&c) || peers(c)), "{code:?}");
                    }
                    first => panic!("{first:#04x} from the server"),
                }
            }
            let closes = frames.iter().filter(|frame| frame.first == 0x88).count();
            assert!(closes <= 1);
            other.send(&text("unharmed")).await;
            other.expect(0x81, b"unharmed").await;
            other.send(&close(1000, "")).await;
            other.expect_close(Some(1000)).await;
            stack.is_clean().await;
            let log = recorder.log();
            let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
            assert_eq!(count("open"), count("close "));
        });
    }
}
