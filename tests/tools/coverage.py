"""What of src the tests reach, from the lcov file that tests/tools/coverage.sh makes.

Unit tests, at the end of a file or in a tests.rs, are not counted: they would only praise themselves.
"""

import pathlib
import sys

LEAST = 95.0


def lines(lcov):
    """(file, line) -> how often it ran."""
    counts, name = {}, None
    for record in pathlib.Path(lcov).read_text().splitlines():
        if record.startswith("SF:"):
            name = pathlib.Path(record[3:])
        elif record.startswith("DA:"):
            line, count = record[3:].split(",")[:2]
            key = (name, int(line))
            # Generic code is there once for each of its types.
            counts[key] = counts.get(key, 0) + int(count)
    return counts


def end_of_code(path):
    text = path.read_text().splitlines()
    tests = (n for n, line in enumerate(text, 1) if line.startswith("#[cfg(test)]") or line.startswith("#[cfg(all(test"))
    for n in tests:
        if text[n].startswith("mod tests"):
            return n
    return len(text) + 1


def ranges(numbers):
    spans = []
    for n in sorted(numbers):
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


root = pathlib.Path(__file__).resolve().parents[2] / "src"
files = {}
for (path, line), count in lines(sys.argv[1]).items():
    if root in path.parents and path.name != "tests.rs":
        files.setdefault(path, {})[line] = count
total = reached = 0
for path in sorted(files):
    end = end_of_code(path)
    code = {n: count for n, count in files[path].items() if n < end}
    missed = [n for n, count in code.items() if count == 0]
    total += len(code)
    reached += len(code) - len(missed)
    percent = 100 * (1 - len(missed) / max(len(code), 1))
    print(f"{percent:6.1f} %  {path.relative_to(root.parent)}", f"not: {ranges(missed)}" if missed else "")
percent = 100 * reached / total
print(f"{percent:6.1f} %  of {total} lines of src")
if percent < LEAST:
    sys.exit(f"FAILED: less than {LEAST} % of the lines of src are reached by a test")
