//! Peers that are silent, slow, or gone, and what is due about them.

use super::*;

fn at(seconds: u64) -> Moment {
    Moment::new(Duration::from_secs(seconds))
}

/// Lets time pass, and tells what was due when.
fn run(live: &mut Deadlines, config: &Config, until: u64) -> Vec<(u64, Due)> {
    let mut seen = Vec::new();
    while let Some(now) = live.deadline().filter(|now| *now <= at(until)) {
        while let Some(due) = live.due(now, false, config) {
            seen.push((now.age().as_secs(), due));
            if due == Due::NoPong {
                return seen;
            }
        }
    }
    seen
}

/// The first ping is due at 20 s, and the socket takes it.
fn pinged(config: &Config) -> Deadlines {
    let mut live = Deadlines::new(config);
    assert_eq!(live.due(at(20), false, config), Some(Due::Ping([0; 4])));
    live.wrote(6, at(20));
    live.flushed(at(20), config);
    live
}

#[test]
fn n7_a_silent_peer_is_found_after_40_seconds() {
    let config = Config::default();
    let mut live = pinged(&config);
    assert_eq!(run(&mut live, &config, 100), [(40, Due::NoPong)]);
}

#[test]
fn f24_only_the_pong_with_our_payload_answers_the_ping() {
    let config = Config::default();
    let mut live = pinged(&config);
    live.ponged(b"", at(21));
    live.ponged(b"\0\0\0\0\0", at(21));
    live.ponged(b"\0\0\0\x01", at(21));
    assert_eq!(live.due(at(40), false, &config), Some(Due::NoPong));

    let mut live = pinged(&config);
    live.ponged(&[0; 4], at(20));
    live.arrived(at(20));
    assert_eq!(
        live.due(at(40), false, &config),
        Some(Due::Ping([0, 0, 0, 1]))
    );
}

#[test]
fn p5_the_time_to_answer_counts_from_when_the_socket_has_taken_the_ping() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    live.blocked(at(10), &config);
    assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
    // The progress of what is before it is watched meanwhile.
    assert_eq!(run(&mut live, &config, 100), [(40, Due::NotReading)]);
    live.flushed(at(41), &config);
    assert_eq!(run(&mut live, &config, 100), [(61, Due::NoPong)]);
}

#[test]
fn p5_a_pong_proves_that_all_before_its_ping_was_read() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    live.wrote(4_000_000, at(0));
    assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
    live.wrote(6, at(20));
    live.flushed(at(20), &config);
    live.wrote(1000, at(21));
    assert!(live.behind(at(22)) > Duration::from_secs(200));
    live.ponged(&[0; 4], at(22));
    assert_eq!(live.behind(at(22)), Duration::ZERO);
}

/// A peer that reads `rate` bytes a second, behind `between` bytes of buffers of which a third
/// must be free before the socket takes more, is sent `message` bytes at once. What was due, by
/// the time all of it is read; or by the end of an hour, of one that reads nothing.
fn sent_to(rate: u64, between: u64, message: u64) -> Vec<(u64, Due)> {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    let (mut unsent, mut written, mut read) = (message, 0, 0);
    let mut ping: Option<(u64, [u8; 4])> = None;
    let mut asked = None;
    let mut bad = Vec::new();
    for second in 0..3600 {
        let now = at(second);
        read = written.min(read + rate);
        if let Some((behind, payload)) = ping.filter(|(behind, _)| *behind <= read) {
            assert!(behind <= written);
            live.arrived(now);
            live.ponged(&payload, now);
            ping = None;
        }
        while let Some(due) = live.due(now, false, &config) {
            match due {
                Due::Ping(payload) => asked = Some(payload),
                due => bad.push((second, due)),
            }
        }
        if !bad.is_empty() || unsent == 0 && read == written && second > 0 {
            return bad;
        }
        if written - read <= between * 2 / 3 {
            let n = unsent.min(between - (written - read));
            live.wrote(n as usize, now);
            written += n;
            unsent -= n;
            if let Some(payload) = asked.take() {
                written += 6;
                live.wrote(6, now);
                ping = Some((written, payload));
            }
        }
        if unsent > 0 || asked.is_some() {
            live.blocked(now, &config);
        } else {
            live.flushed(now, &config);
        }
    }
    bad
}

#[test]
fn p5_who_reads_16_kb_a_second_is_never_cut_off_whatever_lies_between() {
    for between in [16 << 10, 300_000, 2_600_000, 4 << 20, 8 << 20] {
        for rate in [16_000, 20_000, 25_000, 50_000, 1_000_000] {
            for message in [
                1_000, 1_000_000, 1_500_000, 3_000_000, 8_000_000, 30_000_000,
            ] {
                let due = sent_to(rate, between, message);
                assert_eq!(due, [], "{message} B at {rate} B/s through {between} B");
            }
        }
    }
}

#[test]
fn p5_who_reads_nothing_is_given_up_in_a_time_that_what_the_socket_took_decides() {
    for (between, latest) in [
        (0, 30),
        (64 << 10, 30),
        (2_600_000, 189),
        (4 << 20, 289),
        (8 << 20, 551),
        // No buffer is larger than we believe.
        (64 << 20, 551),
    ] {
        let due = sent_to(0, between, 100_000_000);
        assert_eq!(due, [(latest, Due::NotReading)], "{between}");
        if between == 0 {
            continue;
        }
        // All of it is in the buffers: the ping stands behind it.
        let due = sent_to(0, between + 6, between);
        let [(at, Due::NoPong | Due::NotReading)] = due[..] else {
            panic!("{due:?}");
        };
        assert!(at <= latest + 20, "{between}: {at}");
    }
}

#[test]
fn a_peer_that_sends_is_not_pinged() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    for second in (0..100).step_by(10) {
        live.arrived(at(second));
        assert_eq!(live.due(at(second), false, &config), None);
    }
}

#[test]
fn f8_n6_a_stalled_frame_is_late_after_30_seconds_and_a_second_for_each_kib() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    live.arrived(at(0));
    live.receiving(4096, at(0), &config);
    for second in 1..34 {
        live.arrived(at(second));
        assert_eq!(live.due(at(second), true, &config), None, "{second}");
    }
    assert_eq!(live.due(at(34), true, &config), Some(Due::NotSending));
}

#[test]
fn a_message_that_came_in_time_is_not_late() {
    let config = Config {
        heartbeat: None,
        ..Config::default()
    };
    let mut live = Deadlines::new(&config);
    live.receiving(1, at(0), &config);
    live.received();
    assert_eq!(live.due(at(30), false, &config), None);
    assert_eq!(live.deadline(), None);
}

#[test]
fn n4_n5_a_reader_of_a_byte_a_second_is_late_after_30_seconds() {
    let config = Config {
        heartbeat: None,
        ..Config::default()
    };
    let mut live = Deadlines::new(&config);
    live.blocked(at(0), &config);
    for second in 1..30 {
        live.wrote(1, at(second));
        live.blocked(at(second), &config);
        assert_eq!(live.due(at(second), false, &config), None);
    }
    assert_eq!(live.due(at(30), false, &config), Some(Due::NotReading));
}

#[test]
fn a_slow_reader_that_keeps_up_the_pace_is_not_late() {
    let config = Config {
        heartbeat: None,
        ..Config::default()
    };
    let mut live = Deadlines::new(&config);
    live.blocked(at(0), &config);
    for second in 1..1000 {
        live.wrote(1100, at(second));
        assert_eq!(live.due(at(second), false, &config), None, "{second}");
    }
}

#[test]
fn a3_while_the_driver_does_not_read_no_delay_is_the_peers() {
    let config = Config::default();
    let mut live = pinged(&config);
    live.receiving(1, at(20), &config);
    live.pause(at(30));
    let beats: Vec<_> = (2..=25).map(|i| (20 * i, Due::Beat)).collect();
    assert_eq!(run(&mut live, &config, 500), beats);
    live.resume(at(500), &config);
    // 10 of 20 s were left for the pong, 20 of 30 s for the message.
    assert_eq!(live.due(at(509), false, &config), None);
    assert_eq!(live.due(at(510), false, &config), Some(Due::NoPong));
    assert_eq!(live.due(at(520), false, &config), Some(Due::NotSending));
}

#[test]
fn a_pong_behind_the_rest_of_a_frame_has_more_time() {
    let config = Config::default();
    let mut live = pinged(&config);
    assert_eq!(live.due(at(40), true, &config), None);
    assert_eq!(live.due(at(60), false, &config), Some(Due::NoPong));
}

#[test]
fn s3_what_brings_a_message_no_nearer_to_its_end_buys_no_time() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    live.receiving(10, at(0), &config);
    for second in 0..30 {
        // A kilobyte of pings, or an empty fragment.
        live.arrived(at(second));
        live.receiving(0, at(second), &config);
        assert_eq!(live.due(at(second), false, &config), None);
    }
    assert_eq!(live.due(at(30), false, &config), Some(Due::NotSending));
}

#[test]
fn s3_a_message_of_which_all_but_a_byte_came_at_once_is_late_within_94_seconds() {
    let config = Config {
        heartbeat: None,
        ..Config::default()
    };
    let mut live = Deadlines::new(&config);
    for _ in 0..16 {
        live.receiving(65_535, at(0), &config);
    }
    let due = run(&mut live, &config, 3600);
    assert!(matches!(due[..], [(30..=94, Due::NotSending)]), "{due:?}");
}

#[test]
fn idle_counts_from_the_last_message_of_either_side() {
    let config = Config {
        heartbeat: None,
        idle_timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    };
    let mut live = Deadlines::new(&config);
    live.message(at(5));
    assert_eq!(live.due(at(10), false, &config), None);
    live.sending();
    live.wrote(1, at(14));
    live.flushed(at(15), &config);
    // A ping or a pong.
    live.wrote(1, at(15));
    live.flushed(at(15), &config);
    assert_eq!(live.due(at(15), false, &config), None);
    assert_eq!(live.due(at(24), false, &config), Some(Due::Idle));
}

#[test]
fn nothing_is_due_after_the_end_but_the_end() {
    let config = Config::default();
    let mut live = Deadlines::new(&config);
    live.stop_receiving();
    assert_eq!(live.deadline(), None);
    live.end_at(at(5));
    assert_eq!(run(&mut live, &config, 100), [(5, Due::Over)]);
    live.end_at(at(6));
    live.clear();
    assert_eq!(live.deadline(), None);
}
