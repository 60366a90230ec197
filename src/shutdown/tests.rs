use std::sync::atomic::AtomicU64;

use super::*;

#[derive(Default)]
struct Peer {
    left: AtomicUsize,
    aborted: AtomicUsize,
    told: Mutex<Option<(Instant, CloseCode)>>,
}

impl Member for Peer {
    fn key(&self) -> u64 {
        0
    }
    fn leave(&self, frame: CloseFrame) {
        self.left.fetch_add(1, Ordering::Relaxed);
        *self.told.lock().unwrap() = Some((Instant::now(), frame.code));
    }
    fn abort(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

fn key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn track(shutdown: &Shutdown, peer: &Arc<Peer>) -> Option<Tracked> {
    let peer: Arc<dyn Member> = peer.clone();
    let tracked = shutdown.track(key(), Arc::downgrade(&peer))?;
    tracked.opened();
    Some(tracked)
}

#[tokio::test(start_paused = true)]
async fn a14_who_is_there_at_the_deadline_is_aborted_and_counted() {
    let shutdown = Shutdown::new();
    let (quick, slow) = (Arc::<Peer>::default(), Arc::<Peer>::default());
    let quick_tracked = track(&shutdown, &quick);
    let _slow_tracked = track(&shutdown, &slow);
    assert_eq!(shutdown.connections(), 2);
    drop(quick_tracked);
    let drained = shutdown.drain(Duration::from_secs(1)).await;
    assert_eq!((drained.forced(), drained.remaining()), (1, 1));
    assert_eq!(slow.left.load(Ordering::Relaxed), 1);
    assert_eq!(slow.aborted.load(Ordering::Relaxed), 1);
    assert_eq!(quick.aborted.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn s9_of_two_drains_at_once_the_longer_reports_what_the_shorter_forced() {
    let shutdown = Shutdown::new();
    let (quick, slow) = (Arc::<Peer>::default(), Arc::<Peer>::default());
    let tracked = [track(&shutdown, &quick), track(&shutdown, &slow)];
    let drain = |seconds| tokio::spawn(shutdown.drain(Duration::from_secs(seconds)));
    let (short, long) = (drain(10), drain(60));
    let [quick_tracked, slow_tracked] = tracked;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(quick_tracked);
    let later = drain(60);
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(slow.aborted.load(Ordering::Relaxed), 1);
    let latest = drain(60);
    tokio::task::yield_now().await;
    drop(slow_tracked);
    for (which, drained, expected) in [
        ("short", short, (1, 1, 0)),
        ("long", long, (1, 1, 0)),
        ("later", later, (0, 1, 0)),
        ("latest", latest, (0, 1, 0)),
    ] {
        let drained = drained.await.unwrap();
        let got = (drained.closed(), drained.forced(), drained.remaining());
        assert_eq!(got, expected, "{which}");
    }
}

#[tokio::test(start_paused = true)]
async fn s9_what_never_opened_is_neither_closed_nor_forced() {
    let shutdown = Shutdown::new();
    let pending = || {
        let peer: Arc<dyn Member> = Arc::new(Peer::default());
        shutdown.track(key(), Arc::downgrade(&peer))
    };
    let (_stays, leaves) = (pending(), pending());
    let opens = pending().unwrap();
    let drain = tokio::spawn(shutdown.drain(Duration::from_secs(1)));
    tokio::task::yield_now().await;
    drop(leaves);
    opens.opened();
    drop(opens);
    let drained = drain.await.unwrap();
    let got = (drained.closed(), drained.forced(), drained.remaining());
    assert_eq!((got, drained.unopened()), ((1, 0, 0), 2));
}

#[tokio::test(start_paused = true)]
async fn a15_draining_twice_is_fine_and_nobody_enters_meanwhile() {
    let shutdown = Shutdown::new();
    assert_eq!(shutdown.drain(Duration::ZERO).await.closed(), 0);
    assert_eq!(shutdown.drain(Duration::ZERO).await.forced(), 0);
    assert!(shutdown.is_draining());
    assert!(track(&shutdown, &Arc::default()).is_none());
}

#[tokio::test(start_paused = true)]
async fn draining_ends_when_the_last_connection_ends() {
    let shutdown = Shutdown::new();
    let peer = Arc::<Peer>::default();
    let tracked = track(&shutdown, &peer);
    let waiting = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { shutdown.drain(Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(tracked);
    assert_eq!(waiting.await.unwrap().closed(), 1);
}

/// When each of 200 connections is told to leave, in seconds.
async fn told(drain: impl FnOnce(&Shutdown) -> Drain) -> Vec<(f64, CloseCode)> {
    let shutdown = Shutdown::new();
    let peers: Vec<_> = (0..200).map(|_| Arc::<Peer>::default()).collect();
    let tracked: Vec<_> = peers.iter().map(|peer| track(&shutdown, peer)).collect();
    let began = Instant::now();
    assert_eq!(drain(&shutdown).await.forced(), 200);
    drop(tracked);
    let told = peers.iter().map(|peer| {
        let (at, code) = peer.told.lock().unwrap().unwrap();
        ((at - began).as_secs_f64(), code)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn r8_connections_are_told_to_leave_evenly_over_the_window_and_out_of_order() {
    let drain = |shutdown: &Shutdown| {
        let drain = shutdown.drain(Duration::from_secs(60)).restarting();
        drain.spread(Duration::from_secs(20))
    };
    let told = told(drain).await;
    assert!(
        told.iter()
            .all(|(_, code)| *code == CloseCode::SERVICE_RESTART)
    );
    for quarter in 0..4 {
        let from = f64::from(quarter) * 5.0;
        let here = told
            .iter()
            .filter(|(at, _)| (from..from + 5.0).contains(at));
        assert!((45..=55).contains(&here.count()), "{told:?}");
    }
    assert!(!told.is_sorted_by(|a, b| a.0 <= b.0));
}

#[tokio::test(start_paused = true)]
async fn r8_by_default_a_connection_has_a_millisecond_and_all_a_quarter_of_the_deadline() {
    let last = |told: Vec<(f64, CloseCode)>| told.iter().fold(0.0, |a: f64, b| a.max(b.0));
    let many = last(told(|shutdown| shutdown.drain(Duration::from_secs(60))).await);
    assert!((0.15..=0.21).contains(&many), "{many}");
    let short = last(told(|shutdown| shutdown.drain(Duration::from_millis(400))).await);
    assert!((0.05..=0.11).contains(&short), "{short}");
}

#[tokio::test(start_paused = true)]
async fn a15_no_duration_is_too_long() {
    let shutdown = Shutdown::new();
    let peer = Arc::<Peer>::default();
    let tracked: Vec<_> = (0..3).map(|_| track(&shutdown, &peer)).collect();
    let drain = shutdown.drain(Duration::MAX).spread(Duration::MAX);
    let draining = tokio::spawn(drain);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!draining.is_finished());
    drop(tracked);
    assert_eq!(draining.await.unwrap().closed(), 3);
    let again = shutdown.drain(Duration::MAX).await;
    assert_eq!(again.forced(), 0);
}

#[tokio::test(start_paused = true)]
async fn a15_a_spread_beyond_the_deadline_is_cut_off() {
    let spread = Duration::from_secs(3600);
    let began = Instant::now();
    let drained = told(|shutdown| shutdown.drain(Duration::from_secs(1)).spread(spread));
    assert_eq!(drained.await.len(), 200);
    assert!(began.elapsed() <= Duration::from_secs(2));
}
