"""links.py PAGE...: every relative link in these pages of rustdoc's leads to a file and a heading."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def is_dead(path, link):
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return False
    target = (path.parent / unquote(url.path)).resolve() if url.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return True
    # Numbers are lines of a source, which a script marks.
    if target.suffix != ".html" or not any(c.isalpha() for c in url.fragment):
        return False
    return url.fragment not in Page(target).ids


def main(paths):
    assert paths, "no pages"
    dead = [f"{path}: {link}" for path in paths for link in Page(path).links if is_dead(path, link)]
    if dead:
        sys.exit("dead links:\n" + "\n".join(sorted(dead)))
    print(f"{len(paths)} pages, no dead link")


if __name__ == "__main__":
    main([Path(path).resolve() for path in sys.argv[1:]])
