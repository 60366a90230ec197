"""report.py RESULTS [--check]: medians of what run.sh measured, and ratios to our server.

A ratio is taken within a round, so that what slows the machine for a while slows both sides of
it; the table has the median of the rounds and, in brackets, the lowest and the highest.
"""

import json
import sys
from statistics import median

# The goals that the project has set itself: workload, figure, peer to be compared with (or
# None), and what our server may reach at most.
GOALS = [
    ("w1", "cpu_us", "axum_default", 0.55),
    ("w2", "cpu_us", "axum_default", 0.12),
    ("mem", "fresh", None, 3 * 1024),
]
OURS = "ours"


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


def report_cpu(workload, peers):
    print(f"\n{workload}: the server's CPU time per message")
    rows = [("peer", "µs", "user", "system", "messages/s", "busy", "ours ÷ peer")]
    for peer, results in peers.items():
        ratio = ratios(peers.get(OURS, []), results, "cpu_us")
        rate = median(result["messages"] / result["seconds"] for result in results)
        figures = [middle(results, name, 3) for name in ("cpu_us", "user_us", "system_us")]
        busy = middle(results, "busy", 2)
        rows.append((peer, *figures, f"{rate:,.0f}", busy, spread(ratio)))
    table(rows)


def report_memory(workload, peers):
    print(f"\n{workload}: the server's memory in bytes per idle connection")
    names = ("fresh", "after_message")
    rows = [("peer", "fresh", "after a message", "ours ÷ peer")]
    for peer, results in peers.items():
        ratio = ratios(peers.get(OURS, []), results, "fresh")
        rows.append((peer, *(middle(results, name, 0) for name in names), spread(ratio)))
    table(rows)


def check(runs):
    """Prints how each goal fares, and tells whether all are reached."""
    print("\ngoals")
    passed = True
    for workload, figure, peer, goal in GOALS:
        peers = runs.get(workload, {})
        if OURS not in peers or (peer and peer not in peers):
            print(f"  not run  {workload}")
            continue
        if peer:
            value = median(ratios(peers[OURS], peers[peer], figure))
            name = f"{workload} {figure}, ours ÷ {peer}"
        else:
            value = median(result[figure] for result in peers[OURS])
            name = f"{workload} {figure}"
        reached = value <= goal
        passed &= reached
        print(f"  {'reached' if reached else 'MISSED '}  {name}: {value:.4g}, at most {goal}")
    return passed


def main(path, flags):
    runs = load(path)
    for workload, peers in runs.items():
        (report_memory if workload.startswith("mem") else report_cpu)(workload, peers)
    print()
    return 0 if "--check" not in flags or check(runs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
