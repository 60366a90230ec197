use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

/// A second for `on_message`, and one for the last callbacks.
fn limited() -> Config {
    Config {
        on_message_timeout: Some(SECOND),
        close_timeout: SECOND,
        ..Config::default()
    }
}

#[test]
fn patience_has_24_bytes() {
    assert_eq!(size_of::<Patience>(), 24);
}

/// What there is to do about an application that goes on for ever, and when.
fn all(patience: &mut Patience) -> Vec<(u128, Verdict)> {
    let mut all = Vec::new();
    while let Some(now) = patience.deadline() {
        let verdict = patience
            .verdict(now)
            .expect("a deadline that means something");
        all.push((now.age().as_millis(), verdict));
        if verdict != Verdict::Farewell {
            break;
        }
    }
    all
}

#[test]
fn an_open_connection_waits_for_its_application_for_ever() {
    let mut patience = Patience::default();
    patience.begin(&Config::default());
    patience.waits(at(0), &Config::default());
    assert_eq!(
        (patience.deadline(), patience.verdict(at(1 << 40))),
        (None, None)
    );
}

#[test]
fn a_callback_with_a_timeout_has_it_from_when_it_first_waits_and_until_it_returns() {
    let mut patience = Patience::default();
    patience.begin(&limited());
    assert!(!patience.is_counting());
    patience.waits(at(500), &limited());
    patience.waits(at(900), &limited());
    assert_eq!(patience.verdict(at(1499)), None);
    assert_eq!(all(&mut patience), [(1500, Verdict::Late)]);
    patience.returned();
    assert_eq!(patience.verdict(at(9000)), None);
}

#[test]
fn p4_after_the_end_the_application_may_send_a_little_longer_and_run_for_the_close_timeout() {
    let mut patience = Patience::default();
    patience.ended(SECOND / 20, 5 * SECOND, 0, at(1000));
    // The first end counts.
    patience.ended(SECOND, 9 * SECOND, 0, at(1010));
    let expected = [(1050, Verdict::Farewell), (6000, Verdict::Abandon)];
    assert_eq!(all(&mut patience), expected);
}

#[test]
fn p4_who_takes_what_came_before_the_end_may_go_on_answering_it() {
    let mut patience = Patience::default();
    patience.ended(SECOND / 20, 5 * SECOND, 3, at(1000));
    patience.waiting(3, at(1020));
    patience.waiting(2, at(1040));
    assert_eq!(patience.verdict(at(1060)), None);
    patience.waiting(0, at(1080));
    let expected = [(1130, Verdict::Farewell), (6000, Verdict::Abandon)];
    assert_eq!(all(&mut patience), expected);
    // It is said once.
    patience.waiting(0, at(2000));
    assert_eq!(patience.deadline(), Some(at(6000)));
}

#[test]
fn p4_who_sends_a_whole_queue_after_the_end_need_not_be_waited_for() {
    let mut patience = Patience::default();
    // While the connection lives, a full queue is nothing.
    (0..9).for_each(|_| patience.room(at(0)));
    patience.ended(SECOND / 20, 5 * SECOND, 2, at(1000));
    patience.room(at(1001));
    patience.waiting(1, at(1002));
    patience.room(at(1003));
    assert_eq!(patience.verdict(at(1003)), None);
    patience.room(at(1004));
    assert_eq!(patience.verdict(at(1004)), Some(Verdict::Farewell));
    patience.room(at(1005));
    assert_eq!(patience.deadline(), Some(at(6000)));
}

#[test]
fn a14_a_shutdown_that_is_over_ends_callbacks_at_once_and_leaves_the_last_two_some_time() {
    let mut patience = Patience::default();
    patience.force(SECOND / 2, at(1000));
    assert_eq!(all(&mut patience), [(1000, Verdict::Abandon)]);
    patience.last(5 * SECOND, at(1000));
    assert_eq!(all(&mut patience), [(1500, Verdict::Abandon)]);
    // A peer that closes while `on_error` runs has its answer before that is done.
    patience.ended(SECOND / 20, 5 * SECOND, 0, at(1000));
    let expected = [(1050, Verdict::Farewell), (1500, Verdict::Abandon)];
    assert_eq!(all(&mut patience), expected);
    // The other way round: on_close was running.
    let mut patience = Patience::default();
    patience.last(5 * SECOND, at(0));
    patience.force(SECOND / 2, at(1000));
    patience.force(SECOND / 2, at(1400));
    assert_eq!(all(&mut patience), [(1500, Verdict::Abandon)]);
}

#[test]
fn p4_the_last_callbacks_have_the_close_timeout_from_when_they_first_wait() {
    let mut patience = Patience::default();
    patience.begin_last();
    assert!(!patience.is_counting() && patience.deadline().is_none());
    patience.waits(at(500), &limited());
    assert!(patience.is_counting());
    patience.waits(at(900), &limited());
    assert_eq!(all(&mut patience), [(1500, Verdict::Abandon)]);
    // The other one has its own.
    patience.returned();
    patience.begin_last();
    patience.waits(at(2000), &limited());
    assert_eq!(all(&mut patience), [(3000, Verdict::Abandon)]);
}

#[test]
fn nothing_is_due_when_no_callback_runs() {
    let mut patience = Patience::default();
    patience.begin(&limited());
    patience.waits(at(0), &limited());
    patience.ended(SECOND, SECOND, 0, at(0));
    patience.clear();
    assert_eq!(
        (patience.deadline(), patience.verdict(at(9000))),
        (None, None)
    );
}
