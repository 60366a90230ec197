use super::*;

fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

/// One bucket of `rate` a second.
fn limited(rate: u32) -> (Rates, Config) {
    let config = Config {
        max_control_rate: rate,
        max_message_rate: Some(rate),
        ..Config::default()
    };
    (Rates::new(&config), config)
}

/// Every kind of frame that is counted has the same rule.
const KINDS: [fn(&mut Rates, Moment, &Config) -> bool; 2] = [Rates::control, Rates::message];

#[test]
fn f22_a_burst_passes_and_one_more_does_not() {
    for take in KINDS {
        let (mut rates, config) = limited(10);
        assert!((0..10).all(|_| take(&mut rates, at(5000), &config)));
        assert!(!take(&mut rates, at(5000), &config));
    }
}

#[test]
fn f22_the_rate_passes_for_ever_and_a_tenth_more_does_not() {
    for take in KINDS {
        let (mut rates, config) = limited(10);
        assert!((0..1000).all(|i| take(&mut rates, at(i * 100), &config)));
        let (mut rates, config) = limited(10);
        let refused = (0..1000).find(|i| !take(&mut rates, at(i * 90), &config));
        // 10 at once, and then one in ten is too many.
        assert!(matches!(refused, Some(90..110)), "{refused:?}");
    }
}

#[test]
fn silence_saves_no_more_than_the_burst() {
    let take = |bucket: &mut Bucket, n, now| bucket.take(n, 1000, 4000, now, now);
    let mut bucket = Bucket::default();
    assert!(take(&mut bucket, 4000, at(60_000)));
    assert!(!take(&mut bucket, 10, at(60_000)));
    let mut bucket = Bucket::default();
    assert!(take(&mut bucket, 4000, at(0)));
    assert!(take(&mut bucket, 1000, at(1000)));
}

#[test]
fn what_piled_up_while_nobody_read_is_not_the_peers_haste() {
    for take in KINDS {
        let (mut rates, config) = limited(10);
        // 10 s of messages at the full rate, read within a moment.
        rates.excuse(at(1000), at(11_000));
        assert!((0..100).all(|_| take(&mut rates, at(11_000), &config)));
        // The burst on top, and no more.
        assert!((0..10).all(|_| take(&mut rates, at(11_000), &config)));
        assert!(!take(&mut rates, at(11_000), &config));
        // An excuse that was not needed is void soon.
        let (mut rates, config) = limited(10);
        rates.excuse(at(1000), at(11_000));
        assert!((0..10).all(|_| take(&mut rates, at(12_001), &config)));
        assert!(!take(&mut rates, at(12_001), &config));
    }
}

#[test]
fn what_piled_up_is_still_excused_when_reading_it_has_more_pauses() {
    let (mut rates, config) = limited(10);
    rates.excuse(at(1000), at(11_000));
    for i in 0..110 {
        assert!(rates.message(at(11_000 + i), &config), "{i}");
        rates.excuse(at(11_000 + i), at(11_001 + i));
    }
    assert!((0..9).any(|_| !rates.message(at(11_110), &config)));
    // A pause long after the first has its own.
    let (mut rates, config) = limited(10);
    rates.excuse(at(1000), at(11_000));
    rates.excuse(at(12_001), at(12_002));
    assert!((0..10).all(|_| rates.message(at(12_002), &config)));
    assert!(!rates.message(at(12_002), &config));
}

#[test]
fn s9_pauses_in_succession_excuse_no_more_than_the_longest_of_them() {
    let (mut rates, config) = limited(10);
    // An hour of pauses of a second each, in which the peer sends nothing.
    for second in 0..3600 {
        rates.excuse(at(second * 1000), at(second * 1000 + 900));
    }
    let now = at(3_600_000);
    let passed = (0..).take_while(|_| rates.message(now, &config)).count();
    assert_eq!(passed, 19);
}

#[test]
fn any_numbers_will_do() {
    let mut bucket = Bucket::default();
    assert!(bucket.take(1, 0, 0, at(0), at(0)));
    assert!(!bucket.take(u64::MAX, 0, 0, at(0), at(0)));
    let mut bucket = Bucket::default();
    assert!(bucket.take(u64::MAX, u64::MAX, u64::MAX, at(0), at(0)));
}
