use std::task::{Context, Waker};

use super::*;

/// What is decided after `what`, and once the server has handed over nothing.
fn decided(close: bool, what: impl FnOnce(&Confirmation, Ours)) -> &'static str {
    let mut request = http::Request::new(());
    let upgrade = hyper::upgrade::on(&mut request);
    let head = Ours::new();
    let (pending, confirm) = Pending::http1(upgrade, close, &head);
    let DecidedBy::Evidence(waiting) = &pending.decided_by else {
        panic!("no evidence");
    };
    // Never arrives, as long as HTTP goes on.
    waiting.answer().give_up();
    what(&confirm, head);
    drop(confirm);
    match waiting
        .answer()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Pending => "opens",
        Poll::Ready(Err(Refuted::Changed)) => "changed",
        Poll::Ready(Err(Refuted::Unknown)) => "unknown",
        Poll::Ready(Err(Refuted::Later)) => "later",
        Poll::Ready(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn x1_p1_p2_what_became_of_the_body_decides() {
    tokio::spawn(async { decisions() }).await.unwrap();
}

fn decisions() {
    for close in [false, true] {
        let doubtful = if close { "unknown" } else { "opens" };
        let sent = |body: &Confirmation, head| {
            body.asked();
            drop(head);
        };
        assert_eq!(decided(close, sent), "opens");
        let status_changed = |body: &Confirmation, head| {
            body.asked();
            drop(head);
            body.polled();
        };
        assert_eq!(decided(close, status_changed), "changed");
        let status_changed_and_wrapped = |body: &Confirmation, head| {
            drop(head);
            body.polled();
        };
        assert_eq!(decided(close, status_changed_and_wrapped), "changed");
        let wrapped_or_replaced = |_: &Confirmation, head| drop(head);
        assert_eq!(decided(close, wrapped_or_replaced), doubtful);
        assert_eq!(decided(close, |body, _head| body.polled()), doubtful);
        let read_in_a_thread_of_its_own = |body: &Confirmation, head| {
            drop(head);
            std::thread::scope(|scope| scope.spawn(|| body.polled()).join().unwrap());
        };
        assert_eq!(decided(close, read_in_a_thread_of_its_own), doubtful);
        let asked_and_collected = |body: &Confirmation, _head| {
            body.asked();
            body.polled();
        };
        assert_eq!(decided(close, asked_and_collected), doubtful);
    }
}

#[tokio::test]
async fn s8_a_request_of_the_same_task_before_the_upgrade_closes_what_the_body_confirmed() {
    let task = tokio::spawn(async {
        let confirmed = decided(false, |body, head| {
            body.asked();
            drop(head);
            super::super::later_request();
        });
        assert_eq!(confirmed, "later");
        let before = decided(false, |_, _head| super::super::later_request());
        assert_eq!(before, "later");
    });
    task.await.unwrap();
}

#[tokio::test]
async fn p1_requests_of_a_task_that_is_not_the_connections_say_nothing() {
    let elsewhere = |body: &Confirmation, head| {
        super::super::later_request();
        std::thread::scope(|scope| scope.spawn(|| body.asked()).join().unwrap());
        drop(head);
        super::super::later_request();
    };
    let task = tokio::spawn(async move { assert_eq!(decided(false, elsewhere), "opens") });
    task.await.unwrap();
}
