"""A PostgreSQL server of one's own for a test: in a temporary directory, on loopback, gone when the test is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

USER, PASSWORD = "searcher", "open/sesame@4711"


def binaries():
    """The directory of the newest server that is installed; None: there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def missing():
    """Why no server can be started here; empty: one can."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.getuid() == 0 and subprocess.run(["id", "postgres"], capture_output=True).returncode:
        return "PostgreSQL refuses root, and there is no user postgres"
    return ""


def free_port():
    """A port of loopback that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Postgres:
    """A server with one user, who needs a password, and as many databases as asked for."""

    def __init__(self):
        # Not below pytest's directories: those are closed to other users, and the server refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="eesearch-postgres-"))
        self.port = 0
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder is closed
        try:
            self._run(
                "initdb", "-D", str(self.folder / "data"), "-U", USER, "--pwfile", str(secret),
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8",
            )  # fmt: skip
            for attempt in range(5):  # somebody may take the free port first
                self.port = free_port()
                try:
                    self._start()
                    break
                except RuntimeError:
                    if attempt == 4:
                        raise
        except BaseException:
            self.remove()
            raise

    def _start(self):
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "max_connections": 50, "shared_buffers": "32MB", "max_wal_size": "256MB",
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" if value != "" else f"-c {name}=''" for name, value in settings.items())
        self._control("start", "-o", options)

    def _control(self, *action):
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w", "-t", "60", *action)

    def _run(self, program, *arguments):
        command = [str(binaries() / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # A server holds on to pipes for ever: its words go to a file.
        with open(self.folder / "words", "ab") as words:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, cwd=self.folder,
                env=os.environ | {"LC_ALL": "C.UTF-8"}, timeout=120,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'words').read_text()[-2000:]}")

    def url(self, database, *, password=PASSWORD, port=None):
        """The address of a database, as people write it."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{USER}{secret}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, name):
        """Make an empty database and return its address."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def restart(self, mode="immediate"):
        """Stop at once, as after a crash (`immediate`) or politely (`fast`), and start again at the same port."""
        self._control("restart", "-m", mode)

    def stop(self, mode="immediate"):
        """Stop; `start` starts it again."""
        self._control("stop", "-m", mode)

    def start(self):
        """Start a stopped server at the same port."""
        self._start()

    def remove(self):
        """Stop it, however it is, and delete all."""
        try:
            if (self.folder / "data" / "postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running():
    """A server for as long as the block lasts; tests that need it are skipped where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    server = Postgres()
    try:
        yield server
    finally:
        server.remove()
