"""plot.py RESULTS: draws the CPU time per message of what run.sh measured.

Writes benches/results.svg for the README, and src/guide/picture.txt, which is the same picture as
the target of a Markdown link: the documentation has no files beside it.
"""

import sys
from pathlib import Path
from statistics import median
from urllib.parse import quote

from report import load

TITLES = {
    "w1": "100 connections × 64 B, one in flight",
    "w2": "the same, 16 in flight on each",
}
ROW, LEFT, WIDTH = 22, 220, 420


def main(path):
    parts, y = [], 8
    for workload, peers in load(path).items():
        if workload not in TITLES:
            continue
        times = {peer: median(r["cpu_us"] for r in results) for peer, results in peers.items()}
        times = dict(sorted(times.items(), key=lambda item: item[1]))
        most = max(times.values())
        y += ROW
        parts.append(f'<text x="8" y="{y}" class="title">{TITLES[workload]}</text>')
        for peer, time in times.items():
            y += ROW
            kind = "ours" if peer.startswith("ours") else "peer"
            parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{peer}</text>')
            width = WIDTH * time / most
            parts.append(
                f'<rect x="{LEFT}" y="{y - 12}" width="{width:.0f}" height="15" class="{kind}"/>'
            )
            parts.append(f'<text x="{LEFT + width + 6:.0f}" y="{y}">{time:.2f} µs</text>')
        y += ROW // 2
    # A grey that can be read on white and on black.
    style = (
        "text{font:13px sans-serif;fill:#808080}.title{font-weight:bold}"
        ".ours{fill:#2a9d8f}.peer{fill:#9aa0a6}"
    )
    size = f'width="{LEFT + WIDTH + 90}" height="{y + 8}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
    svg = "\n".join([head, *parts, "</svg>"]) + "\n"
    root = Path(__file__).parent.parent
    (root / "benches/results.svg").write_text(svg)
    link = f"[picture]: data:image/svg+xml,{quote(svg, safe='')}\n"
    (root / "src/guide/picture.txt").write_text(link)


if __name__ == "__main__":
    main(sys.argv[1])
