"""Judges an index.json of the Autobahn suite: check.py INDEX AGENT=CASES...

/echo, our own message layer, must be strict throughout and close cleanly;
/stream, tungstenite's, must not fail.
"""

import collections
import json
import sys

INFORMATIONAL = ("7.1.6", "7.13.")  # no right answer, says the suite itself


def faults(agent, results, cases):
    """What is wrong with one agent's results, a line each."""
    if len(results) < cases:
        yield f"only {len(results)} cases ran, not {cases}"
    for case, result in results.items():
        behavior, close = result["behavior"], result["behaviorClose"]
        allowed = {"OK"}
        if case.startswith(INFORMATIONAL):
            allowed.add("INFORMATIONAL")
        if agent == "stream":
            allowed |= {"NON-STRICT", "INFORMATIONAL"}
        if behavior not in allowed:
            yield f"{case}: {behavior}"
        if close not in allowed:
            yield f"{case}: close {close}, code {result['remoteCloseCode']}"


def in_order(case):
    return [int(part) for part in case.split(".")]


def main(path, agents):
    with open(path) as file:
        index = json.load(file)
    failed = False
    for agent, cases in (agent.split("=") for agent in agents):
        results = index.get(agent, {})
        results = {case: results[case] for case in sorted(results, key=in_order)}
        for what in "behavior", "behaviorClose":
            counts = collections.Counter(result[what] for result in results.values())
            print(f"  /{agent:<7}{what:<14}", ", ".join(f"{n} {name}" for name, n in counts.most_common()))
        for fault in faults(agent, results, int(cases)):
            failed = True
            print(f"  /{agent} {fault}")
    if failed:
        print("  details:", path.replace("index.json", "index.html"))
    return failed


sys.exit(main(sys.argv[1], sys.argv[2:]))
