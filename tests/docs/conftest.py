"""Code blocks of the documentation, to be run."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is to be written to, where it begins."""

    language: str
    title: str
    text: str
    line: int

    @property
    def commands(self):
        """What follows the prompts of a console."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="session")
def pages():
    """The text of every page, by its name."""
    return {page.stem: page.read_text() for page in PAGES}


@pytest.fixture(scope="session")
def blocks(pages):
    """The blocks of a page, in order."""

    def find(page):
        text = pages[page]
        found = [
            Block(*match.groups(default=""), text[: match.start(3)].count("\n")) for match in _FENCE.finditer(text)
        ]
        assert len(found) * 2 == sum(line.startswith("```") for line in text.splitlines()), "a fence that is not read"
        return found

    return find
