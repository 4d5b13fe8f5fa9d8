"""Ray, started here or joined: quiet, without telemetry, closed to others.

A Ray that is started here listens on the loopback device only, asks for a token that nobody else knows, and ends with
the search. One that is joined should ask for a token, too: whoever may talk to a Ray cluster may run code on it. We
always show ours, and go nowhere without one; whether the cluster looks at it is up to whoever started that.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf
from typing import Any

from eesearch.core.errors import InputError
from eesearch.study.question import Resources

log = logging.getLogger(__name__)

TOKEN = "RAY_AUTH_TOKEN"
"""Environment variable that holds the token of a cluster."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_BACKEND_LOG_LEVEL": "error",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths of a study are relative to where the search was started
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last result of a trial is its outcome
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""What Ray reads while a search uses it."""

REACHED_S = 10.0
"""A cluster that does not answer for so long is not there."""

LOOKED_S = 1.0
"""Nodes come and go; they are counted again after so many seconds."""


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Be connected with Ray: with the cluster at `address`, else with one that runs here until the end.

    Args:
        address: `auto`, or `host:port` of the cluster's head; None: no other machine is used. A Ray that the program
            is connected with already is used as it is.

    Raises:
        InputError: Ray is not installed, cannot be started or reached, or refuses the token.
    """
    if find_spec("ray") is None:
        raise InputError("driver ray needs Ray", do="Run: pip install 'eesearch[ray]'")
    private = address is None and TOKEN not in os.environ
    with _environment({**ENVIRONMENT, **({TOKEN: secrets.token_hex(32)} if private else {})}):
        import ray

        if ray.is_initialized():
            yield Cluster()
            return
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it tells every death of a worker at length
        folder = tempfile.mkdtemp(prefix="ray-") if address is None else None
        try:
            _forget_tokens()
            with _unheard():
                _start(folder) if folder else _join(str(address))
                yield Cluster()
        finally:
            ray.shutdown()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while; usage statistics stay off."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            elif name != "RAY_USAGE_STATS_ENABLED":
                del os.environ[name]


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what Ray prints about lost machines, pages of it, off the terminal."""
    from ray._private import worker

    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, **options: log.debug("Ray: %s", data["lines"])
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _forget_tokens() -> None:
    """Let Ray read the environment again, as it does itself where it switches tokens on: it looks only once."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _start(folder: str) -> None:
    import ray
    from ray._private import ray_constants

    reachable = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # or the loopback address is replaced by that of the network
    try:
        ray.init(
            address="local",
            num_cpus=count_cpus(),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **_quiet(),
        )
    except Exception as error:  # whatever a dozen of daemons may run into
        raise InputError(
            "Ray cannot be started here", got=_first_line(error), do="Use driver optuna, or name a cluster: --address."
        ) from error
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = reachable


def _join(address: str) -> None:
    import ray
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        found = canonicalize_bootstrap_address_or_die(address)
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_S).close()  # Ray would try for minutes
        ray.init(address=found, **_quiet())
    except Exception as error:  # one kind for each way of not being there
        raise InputError(
            f"the Ray cluster at {address} cannot be joined",
            got=_first_line(error),
            expected="a running cluster, and its token in ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN",
            do="Start one with RAY_AUTH_MODE=token ray start --head, and take its token along.",
        ) from error


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": False}


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def count_cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cluster:
    """The nodes of the Ray that this process is connected with."""

    def __init__(self) -> None:
        self._looked, self._nodes = -inf, list[dict[str, float]]()

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has."""
        import ray

        if time.monotonic() - self._looked > LOOKED_S:
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._looked = time.monotonic()
        return self._nodes

    def slots(self, each: Resources) -> int:
        """How many trials run at once."""
        return sum(fitting(node, each) for node in self.nodes())

    def check(self, each: Resources) -> None:
        """Refuse what no node can run.

        Raises:
            InputError: so.
        """
        if not self.slots(each):
            largest = max((node.get("CPU", 0), node.get("GPU", 0)) for node in self.nodes())
            raise InputError(
                "no machine of the Ray cluster can run a trial",
                got=f"resources {{cpus: {each.cpus}, gpus: {each.gpus:g}}}",
                expected=f"at most {largest[0]:g} CPUs and {largest[1]:g} GPUs on one machine",
                do="Ask for less, in `resources` of the study.",
            )


def fitting(node: Mapping[str, float], each: Resources) -> int:
    """How many trials fit on a node."""
    counts = [int(node.get("CPU", 0) / each.cpus)]
    if each.gpus:
        counts.append(int(node.get("GPU", 0) / each.gpus + 1e-9))
    return min(counts)
