"""What killed searches are compared with, and where they search."""

import pytest

from tests.chaos.harness import placed
from tests.services.conftest import database, postgres

__all__ = ["database", "postgres"]  # fixtures of the services, which are here for these tests too


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """`front.csv` of a search of one process that nobody disturbed."""
    with placed(tmp_path_factory.mktemp("undisturbed")) as place:
        place.finish()
        return (place.run / "front.csv").read_bytes()


@pytest.fixture
def place(tmp_path):
    """A study with an empty run directory; its processes are gone at the end."""
    with placed(tmp_path / "place") as made:
        yield made
