"""Servers of databases, and processes that search in them."""

import pytest

from tests.services import postgres as own


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that this session started; skips where there can be none."""
    with own.running() as server:
        yield server


@pytest.fixture
def database(postgres, request):
    """The address of a new and empty database."""
    return postgres.new_database(f"test-{abs(hash(request.node.nodeid))}")
