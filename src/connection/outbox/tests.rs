use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::close::{CloseCause, CloseCode};
use crate::protocol::Moment;

fn outbox(messages: usize, bytes: usize) -> Outbox {
    let config = Config {
        queue_messages: messages,
        queue_bytes: bytes,
        ..Config::default()
    };
    Outbox::new(Arc::new(config), None)
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn normal() -> CloseFrame {
    CloseFrame::known(CloseCode::NORMAL_CLOSURE, "")
}

#[test]
fn it_is_full_in_messages_or_in_bytes_and_one_large_message_still_fits() {
    let few = outbox(2, usize::MAX);
    assert!(few.try_send("a".into()).is_ok() && few.try_send("b".into()).is_ok());
    assert!(few.try_send("c".into()).unwrap_err().is_full());
    let small = outbox(usize::MAX, 100);
    assert!(small.try_send(vec![0; 1000].into()).is_ok());
    assert!(small.try_send("".into()).unwrap_err().is_full());
    assert_eq!(
        small.queued(),
        Queued {
            messages: 1,
            bytes: 1000
        }
    );
}

#[test]
fn what_is_queued_may_wait_for_more_until_it_is_16_kib_or_somebody_waits_for_room() {
    let small = outbox(2, usize::MAX);
    assert!(!small.is_urgent());
    assert!(small.try_send("a".into()).is_ok() && small.try_send("b".into()).is_ok());
    assert!(!small.is_urgent());
    assert!(small.try_send("c".into()).unwrap_err().is_full());
    assert!(small.is_urgent());

    let large = outbox(usize::MAX, usize::MAX);
    assert!(large.try_send(vec![0; 16_000].into()).is_ok());
    assert!(!large.is_urgent());
    assert!(large.try_send(vec![0; 384].into()).is_ok());
    assert!(large.is_urgent());

    let closed = outbox(2, usize::MAX);
    assert!(closed.close(normal()));
    assert!(closed.is_urgent());
}

#[test]
fn who_waits_is_woken_when_a_batch_is_taken() {
    let outbox = outbox(1, usize::MAX);
    assert!(outbox.try_send("a".into()).is_ok());
    let mut waiting = pin!(outbox.send_later("b".into(), |m| outbox.try_send(m)));
    assert!(waiting.as_mut().poll(&mut cx()).is_pending());
    // Whatever else is asked for meanwhile.
    assert!(outbox.ping(Bytes::new()) && outbox.take_requests().is_some());
    let (mut session, mut batch) = (Session::new(Arc::default()), Batch::default());
    let filled = outbox.fill(&mut session, &mut batch);
    assert!(filled.room && !filled.more && !batch.is_empty());
    assert_eq!(waiting.as_mut().poll(&mut cx()), Poll::Ready(Ok(())));
    // Nobody waits now.
    let mut batch = Batch::default();
    assert!(!outbox.fill(&mut session, &mut batch).room);
    assert!(outbox.is_empty());
}

#[test]
fn a8_behind_a_close_nothing_is_accepted_and_all_who_wait_learn_it() {
    let outbox = outbox(1, usize::MAX);
    assert!(outbox.try_send("a".into()).is_ok());
    let mut waiting = pin!(outbox.send_later("b".into(), |m| outbox.try_send(m)));
    let mut closed = pin!(outbox.closed());
    assert!(waiting.as_mut().poll(&mut cx()).is_pending());
    assert!(closed.as_mut().poll(&mut cx()).is_pending());
    assert!(outbox.close(normal()) && !outbox.close(normal()));
    assert!(matches!(
        waiting.as_mut().poll(&mut cx()),
        Poll::Ready(Err(_))
    ));
    assert!(closed.as_mut().poll(&mut cx()).is_ready());
    assert!(pin!(outbox.closed()).poll(&mut cx()).is_ready());
    assert!(!outbox.ping(Bytes::new()) && outbox.is_closed());
    assert_eq!(outbox.take_requests().unwrap().close, Some(normal()));
    // What was accepted before is still there.
    assert!(!outbox.is_empty());
    outbox.end(true);
    assert!(outbox.is_empty());
}

#[test]
fn a8_a_session_that_has_closed_closes_the_queue_under_its_lock() {
    let outbox = outbox(9, usize::MAX);
    let mut session = Session::new(Arc::default());
    session.close(normal(), CloseCause::Application, Moment::START);
    outbox.fill(&mut session, &mut Batch::default());
    assert!(outbox.try_send("late".into()).unwrap_err().is_closed());
}

/// Sends once more when it is dropped.
struct Last(Arc<Outbox>);

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        b"last"
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.try_send("from a destructor".into());
    }
}

#[test]
fn s9_no_lock_is_held_while_a_payload_of_the_application_is_dropped() {
    for size in [4, 100_000] {
        let outbox = Arc::new(outbox(9, usize::MAX));
        let payload = Bytes::from_owner(Last(outbox.clone()));
        assert!(outbox.try_send(payload.into()).is_ok());
        let filler = vec![0; size];
        assert!(outbox.try_send(filler.into()).is_ok());
        outbox.end(true);
        assert_eq!(outbox.queued().messages(), 0);
    }
}

#[test]
fn of_two_pings_that_wait_the_last_is_sent() {
    let outbox = outbox(9, usize::MAX);
    assert!(outbox.ping(Bytes::from_static(b"1")) && outbox.ping(Bytes::from_static(b"2")));
    outbox.leave(normal());
    let requests = outbox.take_requests().unwrap();
    assert_eq!(requests.ping.as_deref(), Some(&b"2"[..]));
    assert_eq!((requests.leave, requests.close), (Some(normal()), None));
    assert!(outbox.take_requests().is_none());
}
