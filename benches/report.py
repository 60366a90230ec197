"""report.py RESULTS [--check]: what run.sh measured, medians and the least, and ratios to our server.

A ratio is taken within a round, so that what slows the machine for a while slows both sides of
it; the table has the median of the rounds and, in brackets, the lowest and the highest.
"""

import json
import sys
from statistics import median

# The goals that the project has set itself: workload, our server, figure, peer to be compared
# with (or None), and what our server may reach at most.
GOALS = [
    ("w1", "ours", "cpu_us", "axum_default", 0.5),
    ("w1", "ours", "cpu_us", "floor", 1.03),
    ("w2", "ours", "cpu_us", "axum_default", 0.1),
    ("w2", "ours", "cpu_us", "floor", 1.12),
    ("w3", "ours", "cpu_us", "floor", 1.03),
    ("w4", "ours", "cpu_us", "floor", 0.88),
    ("w5", "ours", "cpu_us", "floor", 1.10),
    ("w7", "ours", "cpu_us", "floor", 1.10),
    ("w8", "ours", "cpu_us", "floor", 1.10),
    ("w8k", "ours", "cpu_us", "floor", 1.10),
    ("w8", "ours_topics", "cpu_us", "floor", 1.10),
    ("w8k", "ours_topics", "cpu_us", "floor", 1.10),
    ("w9", "ours", "cpu_us", "bare", 1.01),
    ("w1", "ours_recv", "cpu_us", "ours", 1.05),
    ("w1", "ours_stream", "cpu_us", "tokio_tungstenite_tuned", 1.0),
    ("mem", "ours", "fresh", None, 2 * 1024),
    ("mem", "ours", "after_message", None, 2 * 1024),
    ("mem", "ours_forget", "fresh", None, 1331),
    ("mem_browser", "ours", "fresh", None, 4 * 1024),
]
FLOOR = "floor"


def our(peers):
    """The results of our server: by topics if it has them, of the one that compresses if that is asked."""
    names = ("ours_topics", "ours", "ours_deflate", "ours_tls")
    return next((peers[name] for name in names if name in peers), [])


def load(path):
    """{workload: {peer: [result of each round]}}, in the order of the file."""
    runs = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            run = json.loads(line)
            runs.setdefault(run["workload"], {}).setdefault(run["peer"], []).append(run["result"])
    return runs


def ratios(ours, theirs, figure):
    """Ours by theirs, round by round."""
    return [a[figure] / b[figure] for a, b in zip(ours, theirs) if b[figure]]


def spread(values):
    """Median, lowest and highest; the last two only where they say something."""
    if not values:
        return "–"
    text = f"{median(values):.3f}"
    return text if len(values) == 1 else f"{text} [{min(values):.3f}–{max(values):.3f}]"


def table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + row[0].ljust(widths[0]), *cells, sep="  ")


def middle(results, figure, digits):
    return f"{median(result[figure] for result in results):.{digits}f}"


def least(results):
    """The CPU time of the quietest round: other work on the machine only ever adds."""
    return min((result["cpu_us"] for result in results), default=None)


def report_cpu(workload, peers):
    print(f"\n{workload}: the server's CPU time per message in µs, and the latency in µs")
    head = ("peer", "CPU", "least", "user", "system", "messages/s", "busy", "p50", "p99", "p99.9", "worst")
    rows = [(*head, "bytes", "ours ÷ peer", "of the least", "peer ÷ floor")]
    ours = least(our(peers))
    for peer, results in peers.items():
        ratio = ratios(our(peers), results, "cpu_us")
        at_best = f"{ours / least(results):.3f}" if ours else "–"
        rate = median(result["messages"] / result["seconds"] for result in results)
        figures = [middle(results, name, 3) for name in ("cpu_us", "user_us", "system_us")]
        figures.insert(1, f"{least(results):.3f}")
        busy = middle(results, "busy", 2)
        times = [middle(results, name, 0) for name in ("p50_us", "p99_us", "p999_us")]
        worst = max(result.get("worst_us", 0) for result in results)
        times.append(f"{worst:.0f}" if worst else "–")
        floor = ratios(results, peers.get(FLOOR, []), "cpu_us")
        size = median(result.get("bytes", 0) for result in results)
        size = f"{size:,.0f}" if size else "–"  # of a reply, where it is compressed
        row = (peer, *figures, f"{rate:,.0f}", busy, *times, size, spread(ratio), at_best, spread(floor))
        rows.append(row)
    table(rows)


def report_memory(workload, peers):
    print(f"\n{workload}: the server's memory in bytes per idle connection")
    names = ("fresh", "after_kib", "after_message")
    rows = [("peer", "fresh", "after 1 KiB", "after 64 KiB", "ours ÷ peer")]
    for peer, results in peers.items():
        ratio = ratios(our(peers), results, "fresh")
        rows.append((peer, *(middle(results, name, 0) for name in names), spread(ratio)))
    table(rows)


def check(runs):
    """Prints how each goal fares, and tells whether all are reached."""
    print("\ngoals")
    passed = True
    for workload, ours, figure, peer, goal in GOALS:
        peers = runs.get(workload, {})
        name = f"{workload} {figure}, {ours}" + (f" ÷ {peer}" if peer else "")
        if ours not in peers or (peer and peer not in peers):
            print(f"  not run  {name}")
            continue
        if peer:
            value = median(ratios(peers[ours], peers[peer], figure))
        else:
            value = median(result[figure] for result in peers[ours])
        reached = value <= goal
        passed &= reached
        print(f"  {'reached' if reached else 'MISSED '}  {name}: {value:.4g}, at most {goal}")
    return passed


def main(path, flags):
    runs = load(path)
    for workload, peers in runs.items():
        (report_memory if "mem" in workload else report_cpu)(workload, peers)
    print()
    return 0 if "--check" not in flags or check(runs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
