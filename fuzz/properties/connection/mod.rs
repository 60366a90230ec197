mod application;
mod record;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use self::application::{Application, Brief, perform, script};
use self::record::{Log, Record};
use self::transport::Transport;
use super::frames::{Run, run};
use super::input::Input;
use super::output::Output;
use super::stream::{any_agreed, limits, stream};
use crate::close::{CloseCause, CloseCode};
use crate::config::Config;
use crate::connection::{Connection, Info, Link};
use crate::driver::{Driver, drive};
use crate::message::Message;
use crate::protocol::{Agreed, Event, OpCode};
use crate::shutdown::Member;
use crate::topics::Topics;

/// Row X4: whatever a client sends and the socket does, whatever the application does meanwhile and
/// wherever it is cancelled: what is written are whole frames in order, what was sent is written
/// once or the connection has ended, and `on_open` and `on_close` are one to one.
///
/// `runtime` is one of a single thread whose time is paused.
pub fn connection(runtime: &Runtime, data: &[u8]) {
    runtime.block_on(played(Input::new(data)));
}

async fn played(mut input: Input<'_>) {
    let config = Arc::new(config(&mut input));
    let agreed = any_agreed(&mut input);
    // The task that is dropped after so many polls.
    let polls = match input.byte() {
        0..=0xBF => None,
        n => Some(u32::from(n & 0x3F)),
    };
    let log = Log::default();
    let transport = Transport::new(&mut input, log.clone());
    let callbacks = script(input.short());
    let beside = [script(input.short()), script(input.short())];
    let bytes = stream(&mut input, agreed);
    // Control frames are limited by the clock, which is not the same with every way to read: this is
    // what the stream is without that limit.
    let unlimited = Arc::new(Config {
        max_control_rate: u32::MAX,
        ..*config
    });
    let whole = run(&unlimited, agreed, &bytes, || usize::MAX);
    log.lock().retires = config
        .max_lifetime
        .map(|age| Instant::now() + age - age / 10);

    let info = Info::of_nobody();
    let link = Arc::new(Link::new(config.clone(), info, agreed, Topics::new()));
    let wire = Driver::new(transport.with(bytes), link.clone(), config.clone());
    let application = Application::new(callbacks, link.clone(), log.clone());
    let driver = tokio::spawn(Brief::new(drive(application, wire), polls));
    let mut tasks = Vec::new();
    for mut script in beside {
        let (link, log) = (link.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            let mut conn = Connection::new(link.clone());
            while !script.is_empty() {
                // What a callback would end with is nothing to a task.
                let _ = perform(&mut script, &mut conn, &link, &log, false).await;
            }
        }));
    }
    let guard = tokio::spawn({
        let (link, log) = (link.clone(), log.clone());
        let retires = config.max_lifetime.is_some();
        async move {
            sleep(Duration::from_secs(600)).await;
            settled(&log.lock(), agreed);
            let conn = Connection::new(link.clone());
            let late = retires && conn.try_send("late").is_ok();
            assert!(!late, "it has outlived its time");
            let _ = conn.close(CloseCode::NORMAL_CLOSURE, "long enough");
            sleep(Duration::from_secs(3600)).await;
            link.abort();
        }
    });

    let day = Duration::from_secs(24 * 3600);
    let finished = timeout(day, driver).await.expect("the connection ends");
    let finished = finished.expect("the driver does not panic").is_some();
    guard.abort();
    let guarded = guard.await;
    assert!(!guarded.is_err_and(|error| error.is_panic()), "see above");
    for task in tasks {
        let ended = timeout(day, task)
            .await
            .expect("who sends is told of the end");
        ended.expect("no task panics");
    }
    assert!(Connection::new(link).try_send("late").is_err());

    let output = Output::read(&log.lock().written, agreed);
    check(&log.lock(), &output, &config, &whole, finished);
}

fn config(input: &mut Input<'_>) -> Config {
    let second = Duration::from_secs(1);
    let queue_messages = input.one_of(&[128, 1, 3]);
    let queue_bytes = input.one_of(&[1024 * 1024, 100, 5000]);
    let heartbeat = input.one_of(&[Some(20 * second), None, Some(second)]);
    // What is off in most applications, in one byte.
    let options = input.byte();
    let milli = Duration::from_millis(1);
    Config {
        max_control_rate: if options >> 5 & 1 == 0 { u32::MAX } else { 5 },
        queue_messages,
        queue_bytes,
        heartbeat,
        idle_timeout: (options & 1 != 0).then_some(3 * second),
        // Up to a tenth is left to chance, which timers round away: the same input is the same run.
        max_lifetime: [None, None, Some(2 * milli), Some(10 * milli)]
            [usize::from(options >> 1 & 3)],
        on_message_timeout: [None, None, Some(10 * milli), Some(2 * second)]
            [usize::from(options >> 3 & 3)],
        ..limits(input)
    }
}

/// What could be written by now is written.
fn settled(record: &Record, agreed: Option<Agreed>) {
    if record.is_settled() {
        let written = Output::read(&record.written, agreed).messages;
        assert_eq!(written, record.accepted);
    }
}

fn check(record: &Record, output: &Output, config: &Config, whole: &Run, finished: bool) {
    let events = &whole.events;
    // No future that was dropped has sent anything, all others have, in order, once.
    let sent = &record.accepted;
    assert!(
        sent.starts_with(&output.messages),
        "sent {sent:?}, written {:?}",
        output.messages
    );
    if output.closed {
        assert_eq!(*sent, output.messages, "lost ahead of the Close frame");
    }
    if output.torn {
        assert!(record.blocked || record.failed, "a frame was left torn");
    }

    let pings = events.iter().filter_map(|event| match event {
        Event::Control(OpCode::Ping, payload) => Some(&payload[..]),
        _ => None,
    });
    let mut pings = pings.collect::<Vec<_>>().into_iter();
    // An empty one may be the heartbeat of an application that does not read.
    for pong in output.pongs.iter().filter(|pong| !pong.is_empty()) {
        // Equal pings in a row may have one answer.
        assert!(pings.any(|ping| ping == pong), "nobody asked: {pong:x?}");
    }
    for ping in &output.pings {
        assert!(ping.len() == 4 || ping.starts_with(b"app "), "{ping:x?}");
    }

    let received = events.iter().filter_map(|event| match event {
        Event::Message(message) => Some(message),
        Event::Control(..) | Event::Close(_) => None,
    });
    let received: Vec<Message> = received.cloned().collect();
    let delivered = &record.delivered;
    assert!(
        received.starts_with(delivered),
        "received {received:?}, delivered {delivered:?}"
    );

    assert!(!record.panicked, "a callback has seen what must not be");
    if let Some(timeout) = config.on_message_timeout {
        // Timers count in milliseconds.
        let most = timeout + Duration::from_millis(2);
        assert!(
            record.longest <= most,
            "on_message took {:?}",
            record.longest
        );
    }
    if !finished {
        assert!(record.opened <= 1 && record.closed.len() <= record.opened);
        return;
    }
    let [event] = &record.closed[..] else {
        panic!("on_close was called {} times", record.closed.len());
    };
    assert_eq!(record.opened, 1);
    if event.was_clean() {
        assert!(output.closed && !output.torn);
    }
    let is_limited = |outcome: (CloseCause, CloseCode)| {
        outcome == (CloseCause::Violation, CloseCode::POLICY_VIOLATION)
    };
    // Unless the limit on fragments has ended it.
    let flooded =
        is_limited((event.cause(), event.code())) && !is_limited((whole.end.cause, whole.end.code));
    if flooded {
        let controls = events.iter().filter(|e| !matches!(e, Event::Message(_)));
        assert!(controls.count() > config.max_control_rate as usize - 1);
    }
    let by_peer = matches!(event.cause(), CloseCause::Peer | CloseCause::Violation);
    if by_peer && output.closed && !record.is_meddled() && !flooded {
        assert_eq!(*delivered, received, "not all was delivered");
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::super::tests::{paused, random, random_bytes};
    use super::*;

    #[test]
    fn x4_nothing_is_written_behind_the_end_of_the_output() {
        // The socket takes nothing, so the connection is given up with an answer half written;
        // then `on_close` takes its time.
        let mut data = vec![0; 12];
        for script in [&[][..], &[208], &[], &[224, 224, 169], &[], &[]] {
            data.push(script.len() as u8);
            data.extend(script);
        }
        data.extend([36, 0, 0, 0, 0]);
        connection(&paused(), &data);
    }

    #[test]
    fn x4_no_frame_is_torn_and_no_message_lost_whatever_the_socket_does() {
        for _ in 0..200 {
            let mut random = random();
            let mut data: Vec<u8> = (0..12).map(|_| random.random()).collect();
            for _ in 0..6 {
                let script = random_bytes(&mut random, 19);
                data.push(script.len() as u8);
                data.extend(script);
            }
            data.extend(random_bytes(&mut random, 299));
            connection(&paused(), &data);
        }
    }
}
