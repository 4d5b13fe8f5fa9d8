"""The documentation builds without a warning, links hold, and its pages ask nobody else for anything."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("material")

ROOT = Path(__file__).parents[2]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
IDLE = {"canonical", "next", "prev", "alternate"}
"""Relations of `link` that load nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme's own news
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Page(HTMLParser):
    """Addresses that a page loads, addresses that it links to, names of its places, its text."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.places, self.words = [], [], set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if "id" in known:
            self.places.add(known["id"])
        address = known.get(LOADED.get(tag, ""))
        if address and known.get("rel") not in IDLE:
            self.loads.append(address)
        if tag == "a" and "href" in known:
            self.links.append(known["href"])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_built(site, pages):
    assert {f"{name}.html" for name in pages} <= {path.name for path in site.glob("*.html")}


def test_pages_load_nothing_from_elsewhere(parsed):
    assert parsed
    for path, page in parsed.items():
        away = [address for address in page.loads if urlsplit(address).netloc]
        assert not away, f"{path.name} loads {away}"


def test_styles_load_nothing_from_elsewhere(site):
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert "url(http" not in sheet.read_text()
        assert "@import" not in sheet.read_text()


def test_links_and_places_exist(site, parsed):
    checked = 0
    for path, page in parsed.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / parts.path).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in parsed:
                assert parts.fragment in parsed[target].places, f"{path.name}: {link}"
            checked += 1
    assert checked > 100


def test_code_is_kept_and_comments_are_not_shown(site, parsed):
    words = "".join(parsed[site / "files.html"].words)
    assert "worst_recall" in words
    assert "fields:" not in words
