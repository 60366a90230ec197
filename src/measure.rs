//! What is measured of a server, with the feature `metrics`; without it nothing here does anything.
//!
//! The names stand here once, and in the table of `guide/operating.md`, which a test compares.

use std::time::Duration;

use crate::close::CloseCause;

/// A metric: its name, what kind it is, its unit, its labels with all their values, and what it says.
#[cfg(feature = "metrics")]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: metrics::Unit,
    /// The label, and every value that it can have.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the table"))]
    pub(crate) label: Option<(&'static str, &'static [&'static str])>,
    pub(crate) what: &'static str,
}

#[cfg(feature = "metrics")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[cfg(feature = "metrics")]
mod on {
    use std::sync::LazyLock;
    use std::sync::Once;

    use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

    use super::{Kind, Metric};

    const ACTIVE: &str = "websocket.server.active_connections";
    const OPENED: &str = "websocket.server.opened_connections";
    const CLOSED: &str = "websocket.server.closed_connections";
    const REFUSED: &str = "websocket.server.refused_handshakes";
    const DURATION: &str = "websocket.server.connection.duration";
    const MESSAGES: &str = "websocket.server.messages";
    const BYTES: &str = "websocket.server.message_bytes";
    const QUEUE_FULL: &str = "websocket.server.queue_full";
    const ROUND_TRIP: &str = "websocket.server.heartbeat.round_trip";
    const CALLBACK: &str = "websocket.server.callback.duration";
    const DRAINED: &str = "websocket.server.drained_connections";
    const PUBLISHES: &str = "websocket.server.topic.publishes";
    const DELIVERIES: &str = "websocket.server.topic.deliveries";
    const SUBSCRIPTIONS: &str = "websocket.server.topic.subscriptions";
    const DROPPED: &str = "websocket.server.topic.dropped_messages";
    const RECOVERIES: &str = "websocket.server.topic.recoveries";
    const UP: &str = "websocket.server.backplane.up";
    const RECONNECTS: &str = "websocket.server.backplane.reconnects";
    const LAG: &str = "websocket.server.backplane.lag";
    const OUTBOX: &str = "websocket.server.backplane.outbox";
    const LOST: &str = "websocket.server.backplane.lost_messages";

    pub(crate) const CAUSES: &[&str] = &[
        "peer",
        "application",
        "application_failed",
        "shutdown",
        "idle",
        "lifetime",
        "timeout",
        "violation",
        "transport",
    ];
    pub(crate) const REASONS: &[&str] = &[
        "draining",
        "limit",
        "client_limit",
        "origin",
        "host",
        "invalid",
        "application",
        "timeout",
        "panic",
        "server",
    ];
    pub(crate) const DIRECTIONS: &[&str] = &["received", "sent"];
    pub(crate) const CALLBACKS: &[&str] = &[
        "on_upgrade",
        "on_open",
        "on_message",
        "on_event",
        "on_error",
        "on_close",
    ];
    pub(crate) const OUTCOMES: &[&str] = &["closed", "forced", "unopened"];

    pub(crate) const POLICIES: &[&str] = &[
        "close",
        "drop_newest",
        "drop_oldest",
        "keep_latest",
        "pause",
    ];
    pub(crate) const RECOVERED: &[&str] = &["yes", "no"];

    /// All of them.
    pub(crate) const ALL: &[Metric] = &[
        Metric {
            name: ACTIVE,
            kind: Kind::Gauge,
            unit: Unit::Count,
            label: None,
            what: "Connections that are open.",
        },
        Metric {
            name: OPENED,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Connections that were opened.",
        },
        Metric {
            name: CLOSED,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("cause", CAUSES)),
            what: "Connections that ended, by `CloseCause`.",
        },
        Metric {
            name: REFUSED,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("reason", REASONS)),
            what: "Handshakes that were refused.",
        },
        Metric {
            name: DURATION,
            kind: Kind::Histogram,
            unit: Unit::Seconds,
            label: None,
            what: "How long connections were open.",
        },
        Metric {
            name: MESSAGES,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("direction", DIRECTIONS)),
            what: "Messages that came, and that were handed to the socket.",
        },
        Metric {
            name: BYTES,
            kind: Kind::Counter,
            unit: Unit::Bytes,
            label: Some(("direction", DIRECTIONS)),
            what: "Bytes of their payload: received ones inflated, sent ones as they were written.",
        },
        Metric {
            name: QUEUE_FULL,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Times that a message found the queue of its connection full.",
        },
        Metric {
            name: ROUND_TRIP,
            kind: Kind::Histogram,
            unit: Unit::Seconds,
            label: None,
            what: "How long peers took to answer a heartbeat.",
        },
        Metric {
            name: CALLBACK,
            kind: Kind::Histogram,
            unit: Unit::Seconds,
            label: Some(("callback", CALLBACKS)),
            what: "How long callbacks took. `on_open` may last as long as its connection.",
        },
        Metric {
            name: DRAINED,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("outcome", OUTCOMES)),
            what: "Connections that a drain waited for, by what became of them.",
        },
        Metric {
            name: PUBLISHES,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Messages that were published or appended to topics.",
        },
        Metric {
            name: DELIVERIES,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Messages of topics that came into the queue of a subscriber.",
        },
        Metric {
            name: SUBSCRIPTIONS,
            kind: Kind::Gauge,
            unit: Unit::Count,
            label: None,
            what: "Subscriptions of open connections.",
        },
        Metric {
            name: DROPPED,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("policy", POLICIES)),
            what: "Messages of topics that a subscriber with a full queue did not get, by its `OnFull`.",
        },
        Metric {
            name: RECOVERIES,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: Some(("recovered", RECOVERED)),
            what: "Subscriptions behind a position that the client has shown, by whether nothing was missing. One for which that is unknown at first counts when it is known.",
        },
        Metric {
            name: UP,
            kind: Kind::Gauge,
            unit: Unit::Count,
            label: None,
            what: "Backplanes that reach the other nodes: 1, or 0, where there is one `Topics`.",
        },
        Metric {
            name: RECONNECTS,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Times that a backplane was up again.",
        },
        Metric {
            name: LAG,
            kind: Kind::Histogram,
            unit: Unit::Seconds,
            label: None,
            what: "How long an envelope took through the engine and back, every 2 s.",
        },
        Metric {
            name: OUTBOX,
            kind: Kind::Gauge,
            unit: Unit::Count,
            label: None,
            what: "Messages for other nodes that wait for the engine.",
        },
        Metric {
            name: LOST,
            kind: Kind::Counter,
            unit: Unit::Count,
            label: None,
            what: "Messages for other nodes, or for a shared log, that were given up.",
        },
    ];

    /// Those that move with every message or callback: a look-up each time would cost more than the
    /// message.
    pub(super) struct Handles {
        pub(super) active: Gauge,
        pub(super) opened: Counter,
        pub(super) duration: Histogram,
        pub(super) messages: [Counter; 2],
        pub(super) bytes: [Counter; 2],
        pub(super) queue_full: Counter,
        pub(super) round_trip: Histogram,
        /// In the order of [`CALLBACKS`].
        pub(super) callbacks: Vec<Histogram>,
        pub(super) publishes: Counter,
        pub(super) deliveries: Counter,
        pub(super) subscriptions: Gauge,
        pub(super) up: Gauge,
        pub(super) lag: Histogram,
        pub(super) outbox: Gauge,
    }

    /// Of the recorder that is installed when something is measured first: before a connection opens, or
    /// when a message is published.
    pub(super) fn handles() -> &'static Handles {
        static HANDLES: LazyLock<Handles> = LazyLock::new(|| {
            describe();
            let directed =
                |name: &'static str| [0, 1].map(|i| counter!(name, "direction" => DIRECTIONS[i]));
            Handles {
                active: gauge!(ACTIVE),
                opened: counter!(OPENED),
                duration: histogram!(DURATION),
                messages: directed(MESSAGES),
                bytes: directed(BYTES),
                queue_full: counter!(QUEUE_FULL),
                round_trip: histogram!(ROUND_TRIP),
                callbacks: CALLBACKS
                    .iter()
                    .map(|name| histogram!(CALLBACK, "callback" => *name))
                    .collect(),
                publishes: counter!(PUBLISHES),
                deliveries: counter!(DELIVERIES),
                subscriptions: gauge!(SUBSCRIPTIONS),
                up: gauge!(UP),
                lag: histogram!(LAG),
                outbox: gauge!(OUTBOX),
            }
        });
        &HANDLES
    }

    fn describe() {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(|| {
            for metric in ALL {
                let (name, unit, what) = (metric.name, metric.unit, metric.what);
                match metric.kind {
                    Kind::Counter => metrics::describe_counter!(name, unit, what),
                    Kind::Gauge => metrics::describe_gauge!(name, unit, what),
                    Kind::Histogram => metrics::describe_histogram!(name, unit, what),
                }
            }
        });
    }

    pub(super) fn closed(cause: &'static str) {
        counter!(CLOSED, "cause" => cause).increment(1);
    }

    pub(super) fn refused(reason: &'static str) {
        describe();
        counter!(REFUSED, "reason" => reason).increment(1);
    }

    pub(super) fn callback(name: &str, seconds: f64) {
        let at = CALLBACKS.iter().position(|callback| *callback == name);
        if let Some(histogram) = at.and_then(|at| handles().callbacks.get(at)) {
            histogram.record(seconds);
        }
    }

    pub(super) fn drained(outcome: &'static str, n: usize) {
        counter!(DRAINED, "outcome" => outcome).increment(n as u64);
    }

    pub(super) fn dropped(policy: &'static str, messages: u64) {
        counter!(DROPPED, "policy" => policy).increment(messages);
    }

    pub(super) fn reconnect() {
        counter!(RECONNECTS).increment(1);
    }

    pub(super) fn lost(messages: u64) {
        counter!(LOST).increment(messages);
    }

    pub(super) fn recovery(recovered: &'static str) {
        counter!(RECOVERIES, "recovered" => recovered).increment(1);
    }
}

/// Whether anybody wants to know how long a callback takes: a metric, or the line about those that
/// take longer than `threshold`.
#[inline]
pub(crate) fn times_callbacks(threshold: Option<Duration>) -> bool {
    cfg!(feature = "metrics") || threshold.is_some()
}

/// Counts a connection as open for as long as it is held.
#[derive(Debug)]
pub(crate) struct Open {
    #[cfg(feature = "metrics")]
    since: tokio::time::Instant,
}

impl Open {
    pub(crate) fn new() -> Self {
        #[cfg(feature = "metrics")]
        {
            on::handles().active.increment(1);
            on::handles().opened.increment(1);
        }
        Self {
            #[cfg(feature = "metrics")]
            since: tokio::time::Instant::now(),
        }
    }
}

#[cfg(feature = "metrics")]
impl Drop for Open {
    fn drop(&mut self) {
        on::handles().active.decrement(1);
        on::handles().duration.record(self.since.elapsed());
    }
}

pub(crate) fn closed(cause: CloseCause) {
    let _ = cause;
    #[cfg(feature = "metrics")]
    on::closed(cause.name());
}

/// `reason` is one of those in the table.
pub(crate) fn refused(reason: &'static str) {
    let _ = reason;
    #[cfg(feature = "metrics")]
    on::refused(reason);
}

#[cfg(feature = "metrics")]
pub(crate) fn received(messages: u64, bytes: u64) {
    on::handles().messages[0].increment(messages);
    on::handles().bytes[0].increment(bytes);
}

#[cfg(feature = "metrics")]
pub(crate) fn sent(messages: usize, bytes: usize) {
    on::handles().messages[1].increment(messages as u64);
    on::handles().bytes[1].increment(bytes as u64);
}

pub(crate) fn queue_full() {
    #[cfg(feature = "metrics")]
    on::handles().queue_full.increment(1);
}

pub(crate) fn round_trip(micros: u32) {
    let _ = micros;
    #[cfg(feature = "metrics")]
    on::handles()
        .round_trip
        .record(Duration::from_micros(micros.into()));
}

pub(crate) fn callback(name: &'static str, took: Duration) {
    let _ = (name, took);
    #[cfg(feature = "metrics")]
    on::callback(name, took.as_secs_f64());
}

pub(crate) fn drained(closed: usize, forced: usize, unopened: usize) {
    let _ = (closed, forced, unopened);
    #[cfg(feature = "metrics")]
    for (outcome, n) in on::OUTCOMES.iter().zip([closed, forced, unopened]) {
        on::drained(outcome, n);
    }
}

pub(crate) fn published() {
    #[cfg(feature = "metrics")]
    on::handles().publishes.increment(1);
}

pub(crate) fn delivered(messages: usize) {
    let _ = messages;
    #[cfg(feature = "metrics")]
    if messages > 0 {
        on::handles().deliveries.increment(messages as u64);
    }
}

pub(crate) fn subscribed() {
    #[cfg(feature = "metrics")]
    on::handles().subscriptions.increment(1);
}

pub(crate) fn unsubscribed(subscriptions: usize) {
    let _ = subscriptions;
    #[cfg(feature = "metrics")]
    on::handles().subscriptions.decrement(subscriptions as f64);
}

/// `policy` is one of those in the table.
pub(crate) fn dropped(policy: &'static str, messages: u64) {
    let _ = (policy, messages);
    #[cfg(feature = "metrics")]
    if messages > 0 {
        on::dropped(policy, messages);
    }
}

pub(crate) fn recovery(recovered: bool) {
    let _ = recovered;
    #[cfg(feature = "metrics")]
    on::recovery(if recovered { "yes" } else { "no" });
}

/// A backplane reaches the other nodes, and has done so before.
pub(crate) fn backplane_up(again: bool) {
    let _ = again;
    #[cfg(feature = "metrics")]
    {
        on::handles().up.increment(1);
        if again {
            on::reconnect();
        }
    }
}

pub(crate) fn backplane_down() {
    #[cfg(feature = "metrics")]
    on::handles().up.decrement(1);
}

pub(crate) fn backplane_lag(lag: Duration) {
    let _ = lag;
    #[cfg(feature = "metrics")]
    on::handles().lag.record(lag);
}

/// So many messages came into the outbox of a backplane, and so many left it.
pub(crate) fn outbox(came: usize, left: usize) {
    let _ = (came, left);
    #[cfg(feature = "metrics")]
    if came != left {
        on::handles().outbox.increment(came as f64 - left as f64);
    }
}

pub(crate) fn backplane_lost(messages: usize) {
    let _ = messages;
    #[cfg(feature = "metrics")]
    if messages > 0 {
        on::lost(messages as u64);
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::on::ALL;
    use super::*;

    /// A table that no test reads becomes wrong.
    #[test]
    fn the_guide_lists_every_metric_with_its_labels() {
        let page = include_str!("guide/operating.md");
        let rows: Vec<String> = ALL.iter().map(row).collect();
        let expected = rows.join("\n");
        assert!(page.contains(&expected), "the table is to be:\n{expected}");
        let named = page.matches("| `websocket.server.").count();
        assert_eq!(named, ALL.len());
    }

    fn row(metric: &Metric) -> String {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let kind = match metric.unit {
            metrics::Unit::Count => kind.to_owned(),
            unit => format!("{kind}, {}", unit.as_str()),
        };
        let label = metric.label.map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{name}`: {}", values.join(", "))
        });
        let Metric { name, what, .. } = metric;
        format!(
            "| `{name}` | {kind} | {} | {what} |",
            label.unwrap_or_default()
        )
    }

    /// As Prometheus writes them. A renamed metric leaves a panel empty, and nobody notices.
    #[test]
    fn the_dashboard_asks_for_every_metric_and_for_no_other() {
        let dashboard = include_str!("../examples/operator/dashboard.json");
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = dashboard.split(|c| !is_name(c));
        let mut asked: Vec<&str> = words
            .filter(|word| word.starts_with("websocket_server_"))
            .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let mut names: Vec<String> = ALL.iter().map(|m| m.name.replace('.', "_")).collect();
        names.sort_unstable();
        assert_eq!(asked, names);
    }

    #[test]
    fn no_label_has_more_than_a_dozen_values() {
        for metric in ALL {
            assert!(
                metric.label.is_none_or(|(_, values)| values.len() <= 12),
                "{}",
                metric.name
            );
        }
    }
}
