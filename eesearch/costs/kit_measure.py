"""Measures an eesearch device kit on this machine and writes its profile.

It needs onnxruntime and numpy, Python 3.9 or newer, and neither torch nor eesearch. The protocol is eesearch's own:
fresh pinned processes, warm-up until steady, rounds, medians, differences call by call.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eesearch.costs.kit_reader import EXAMPLE, Kit, KitError
from eesearch.costs.machine import machine_facts, pin, sizes_up_to, steady_environment, usable_cores
from eesearch.costs.summary import figures, never_decreasing, noise_between
from eesearch.costs.timer import Clock, Protocol, Rounds, time_call

THRESHOLD = 0.5
"""Scores are compared with it; which way that goes takes no time."""

CONTENDED, NOISY = 1.05, 0.1
"""Wall time over processor time, and noise between processes, above which the machine was not quiet."""

Asked = tuple[int, str, str]
"""Samples per call, network and name of a figure."""

Told = Callable[[int, int, str], None]
"""Told `(done, total, what)` after each figure."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        providers: Of onnxruntime, in the order of preference.
    """

    threads: int = 1
    batch: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    quick: bool = False

    @property
    def protocol(self) -> Protocol:
        """How long and how often."""
        return Protocol.quick() if self.quick else Protocol()

    @property
    def device(self) -> str:
        """What the profile calls the device."""
        kind = "cuda" if self.providers[0].startswith(("CUDA", "Tensorrt")) else "cpu"
        return f"{kind}:onnxruntime:t{self.threads}:b{self.batch}"

    @property
    def arguments(self) -> list[str]:
        """The same as on the command line."""
        numbers = [f"--threads={self.threads}", f"--batch={self.batch}", f"--providers={','.join(self.providers)}"]
        return [*numbers, "--quick"] if self.quick else numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the kit or this machine cannot be used, 130 interrupted."""
    try:
        sys.exit(_main(sys.argv[1:] if arguments is None else arguments))
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _main(arguments: Sequence[str]) -> int:
    asked = _parser().parse_args(arguments)
    options = Options(asked.threads, asked.batch, tuple(asked.providers.split(",")), asked.quick)
    kit = Kit(asked.kit or Path(sys.argv[0]))
    if asked.worker:
        work(kit, options)
        return 0
    require(options)
    kit.check()
    _check_writable(asked.out)
    with _alone():
        profile = measure(kit, options, _progress)
    _write(asked.out, json.dumps(profile, indent=2, allow_nan=False))
    _say(f"wrote {asked.out}: name it among the devices of a study, or `eesearch profile STUDY --device {asked.out}`")
    for caution in cautions(profile):
        _say(f"caution: {caution}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure an eesearch device kit on this machine.")
    inside = zipfile.is_zipfile(sys.argv[0])  # run as `python KIT.zip`
    parser.add_argument("kit", type=Path, nargs="?" if inside else None, help="the kit, a zip file")
    parser.add_argument("--out", type=Path, default=Path("profile.json"), help="the profile to write; profile.json")
    parser.add_argument("--threads", type=int, default=1, help="threads of one call; 1")
    parser.add_argument("--batch", type=int, default=1, help="samples per call; 1")
    parser.add_argument(
        "--providers", default="CPUExecutionProvider",
        help="of onnxruntime, such as TensorrtExecutionProvider,CUDAExecutionProvider on a Jetson",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one process and few rounds: a first look")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def require(options: Options) -> None:
    """Refuse what this machine cannot do.

    Raises:
        KitError: so.
    """
    try:
        import onnxruntime  # which imports numpy
    except ImportError as error:
        raise KitError(f"onnxruntime cannot be used here ({error}): pip install onnxruntime numpy") from None
    for provider in options.providers:
        if provider not in onnxruntime.get_available_providers():
            known = ", ".join(onnxruntime.get_available_providers())
            raise KitError(f"onnxruntime has no {provider} here; it has {known}")
    if not 1 <= options.threads <= len(usable_cores()):
        raise KitError(f"--threads is {options.threads}; this machine has 1 to {len(usable_cores())}")
    if not 1 <= options.batch <= 4096:
        raise KitError(f"--batch is {options.batch}; from 1 to 4096 samples can be measured")


def measure(kit: Kit, options: Options, told: Told) -> dict[str, Any]:
    """The profile of this machine, as JSON: that of the network, or of several one that joins theirs.

    Raises:
        KitError: a measuring process failed.
    """
    protocol, joined = options.protocol, kit.manifest["joined"]
    rounds: dict[Asked, list[Rounds]] = {each: [] for each, _ in _asked(kit, options)}
    total = protocol.processes * len(rounds)
    for process in range(protocol.processes):
        for done, (each, found) in enumerate(_replies(kit, options), process * len(rounds) + 1):
            rounds[each].append(found)
            told(done, total, each[-1] if joined is None else ": ".join(each[1:]))
    here = {"device": options.device, "fingerprint": _fingerprint(options)}
    profiles = {}
    for network, own in kit.manifest["networks"].items():
        names = [figure["name"] for figure in own["figures"]]
        by_size = [
            _latency(own, {name: rounds[size, network, name] for name in names}, size, protocol)
            for size in sizes_up_to(options.batch)
        ]
        profiles[network] = {**own["known"], **here, "latency": by_size[-1], "smaller": by_size[:-1]}
    return next(iter(profiles.values())) if joined is None else {**here, **joined, "members": profiles}


def _asked(kit: Kit, options: Options) -> list[tuple[Asked, dict[str, Any]]]:
    """All that a process measures, in its order, with each figure's entry in the manifest."""
    return [
        ((size, network, figure["name"]), figure)
        for size in sizes_up_to(options.batch)
        for network, own in kit.manifest["networks"].items()
        for figure in own["figures"]
    ]


def _latency(network: dict[str, Any], rounds: dict[str, list[Rounds]], size: int, protocol: Protocol) -> dict[str, Any]:
    timings = {name: figures(found) for name, found in rounds.items()}
    ms = {name: timing["ms"] for name, timing in timings.items()}
    whole = [rounds[figure["name"]] for figure in network["figures"] if not figure["minus"]]
    return {
        "prefix_ms": never_decreasing([ms[name] for name in network["prefixes"]]),
        "head_ms": {cut: {head: ms[name] for head, name in own.items()} for cut, own in network["heads"].items()},
        "decision_ms": {decision: ms[name] for decision, name in network["decisions"].items()},
        "resume_ms": ms.get(network["resume"], 0.0),
        "timings": timings,
        "noise": noise_between(whole, protocol),
        "batch": size,
    }


def _fingerprint(options: Options) -> dict[str, str]:
    import numpy
    import onnxruntime

    versions = {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__}
    ran = {"providers": ", ".join(options.providers), "protocol": options.protocol.name}
    return {**machine_facts(options.threads), **versions, **ran}


def cautions(profile: dict[str, Any]) -> list[str]:
    """What makes a profile doubtful; of several networks, with their names."""
    if "members" in profile:
        return [f"{name}: {words}" for name, own in profile["members"].items() for words in cautions(own)]
    found = []
    for latency in [*profile["smaller"], profile["latency"]]:
        calls = f"at {latency['batch']} samples per call, " if profile["smaller"] else ""
        if latency["noise"] > NOISY:
            found.append(f"{calls}{latency['noise']:.0%} noise between processes: measure on a quiet machine")
        contended = [name for name, timing in latency["timings"].items() if timing["contention"] > CONTENDED]
        if contended:
            found.append(f"{calls}something else ran beside {len(contended)} figures, such as {contended[0]}")
        restless = [name for name, timing in latency["timings"].items() if timing["noisy"]]
        if restless:
            found.append(f"{calls}{len(restless)} figures never settled, such as {restless[0]}")
    return found


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock that all measurements of this user on this machine share, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"eesearch-measure-{os.getuid()}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replies(kit: Kit, options: Options) -> Iterator[tuple[Asked, Rounds]]:
    """Run one fresh process and yield what it measured; whatever happens, it is gone afterwards."""
    command = [sys.executable, sys.argv[0], str(kit.path), *options.arguments, "--worker"]
    environment = {**os.environ, **steady_environment(options.threads)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        try:
            for line in process.stdout or ():
                message = json.loads(line)
                if message == "done":
                    return
                if "error" in message:
                    raise KitError(f"measuring {message['figure']} of {message['network']} failed: {message['error']}")
                each = message.pop("size"), message.pop("network"), message.pop("figure")
                yield each, Rounds(**message)
            errors.seek(0)
            last_words = errors.read().decode(errors="replace").strip().splitlines()[-3:]
            raise KitError(f"the measuring process died: {' / '.join(last_words) or 'no message'}")
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def work(kit: Kit, options: Options) -> None:
    """The measuring process: a line of JSON per figure, then `"done"`; or an `error`, and the end."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not run into the answers
    pin(options.threads)
    gc.disable()
    for (size, network, name), figure in _asked(kit, options):
        try:
            found = asdict(_timed(kit, figure, size, options))
        except Exception as error:  # whatever onnxruntime raises: told to the parent
            found = {"error": f"{type(error).__name__}: {error}"}
        channel.write(json.dumps({"size": size, "network": network, "figure": name, **found}) + "\n")
        if "error" in found:
            return
        gc.collect()
    channel.write('"done"\n')
    channel.flush()


def _timed(kit: Kit, figure: dict[str, Any], size: int, options: Options) -> Rounds:
    minus = loaded(kit, figure["minus"], size, options) if figure["minus"] else None
    call = loaded(kit, figure["parts"], size, options, decides=figure["decides"])
    return time_call(call, options.protocol, Clock.of(options.threads), minus)


def loaded(kit: Kit, parts: Sequence[str], size: int, options: Options, *, decides: bool = False) -> Callable[[], Any]:
    """A call without arguments that runs pieces one after the other on the example.

    Of more than one sample, those that stay are picked from the carry between two pieces, as they are where some leave.

    Args:
        kit: That holds them.
        parts: Their names.
        size: Number of samples.
        options: Threads and providers.
        decides: Whether the host looks at the answers [N] and scores [N] that are given last.
    """
    import numpy

    sessions = [_session(kit.read(name), options) for name in parts]
    named = [(session.run, [value.name for value in session.get_inputs()]) for session in sessions]
    facts = kit.manifest["example"]
    example = numpy.frombuffer(kit.read(EXAMPLE), facts["dtype"]).reshape(facts["shape"])
    given = [numpy.concatenate([example] * size)]
    stays = numpy.ones(size, bool)

    def call() -> Any:
        made: list[Any] = given
        for number, (run, names) in enumerate(named):
            if number and size > 1:
                made = [tensor[stays] for tensor in made]
            made = run(None, dict(zip(names, made)))  # noqa: B905
        if not decides:
            return made
        if size == 1:
            return made[-1].item() >= THRESHOLD, made[-2].item()
        leaves = made[-1].astype(numpy.float64) >= THRESHOLD
        return bool(leaves.all()), made[-2][leaves]

    return call


def _session(model: bytes, options: Options) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(model, settings, providers=list(options.providers))
    for provider in options.providers:  # what was compiled in may fail to load, and the CPU then runs in its place
        if provider not in session.get_providers():
            raise KitError(f"onnxruntime could not load {provider}; it would run on {session.get_providers()[0]}")
    return session


def _check_writable(path: Path) -> None:
    """So that nothing is measured in vain.

    Raises:
        KitError: there is no such directory, or it cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise KitError(f"{path} cannot be written: {error}") from None


def _write(path: Path, text: str) -> None:
    """Completely, or not at all.

    Raises:
        KitError: the disk is full, or the directory cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=".profile.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise KitError(f"{path} cannot be written: {error}") from None


def _progress(done: int, total: int, what: str) -> None:
    ends = done == total or not sys.stderr.isatty()
    line = f"{done} of {total}: {what}"
    if not sys.stderr.isatty() and done % max(1, total // 20) and done < total:
        return
    sys.stderr.write(line + "\n" if ends else f"\r{line:<70.70}")
    sys.stderr.flush()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
