"""From an exported configuration back to a study: to train its design again, or to search on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from eesearch.core.design import Design, ExitSpec, content_key, trained_alone
from eesearch.core.errors import StudyError
from eesearch.core.policy import Policy
from eesearch.core.registry import STRATEGIES
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.config import ExportedConfig
from eesearch.study.files import resolve
from eesearch.study.named import check_named, named_paths
from eesearch.study.points import Point
from eesearch.study.question import Study, WarmStart
from eesearch.study.rundir import RunDir
from eesearch.study.space import MOST_EXITS

MOST_PLACED = 5
"""Placements on a run's bank that are tried first by a search that the run warms up."""

T = TypeVar("T")


@dataclass(frozen=True)
class Retraining:
    """How a configuration's design is trained again.

    Attributes:
        data: An `.npz` file or `package.module:function`; None: the data of the configuration.
        epochs: None: those of the design; of the study's `training` section if it starts from scratch.
        scratch: Whether the whole network starts from random weights; None: it does if its backbone came without
            weights and its strategy trains it.
        overrides: `key=value` for any other field of the study.
        trust: Whether the code that the configuration names may run, though no study of the user's has run it.
    """

    data: str | None = None
    epochs: int | None = None
    scratch: bool | None = None
    overrides: Sequence[str] = ()
    trust: bool = False


def retraining(config: ExportedConfig, asked: Retraining = Retraining()) -> Study:
    """The study that trains the exits of a configuration, and no others, again.

    Raises:
        StudyError: it has no early exit, or the study would have mistakes.
        InputError: it names code that the user has never named.
    """
    design, exits = _trained(config), active_exits(config)
    study = config.question()
    if asked.scratch is None:
        keeps = design.strategy == "separate" or (design.strategy == "distill" and design.loss.teacher == "backbone")
        scratch = not keeps and not study.backbone.is_trained
    else:
        scratch = asked.scratch
    alone = scratch and "before" not in STRATEGIES[design.strategy].uses  # else the backbone learns first
    spec = study.training.backbone if alone else design.train
    spec = spec if asked.epochs is None else spec.model_copy(update={"epochs": asked.epochs})
    carried = {e.head.name for e in exits}
    # In the space's order: on a vector, the first of the heads that differ in pooling alone stands for all of them.
    heads = [head.model_dump(mode="json") for head in study.space.offered if head.name in carried]
    fields: dict[str, Any] = study.model_dump(mode="json", exclude={"warm_start"})
    length = "" if asked.epochs is None else f"-{asked.epochs}-epochs"
    fields |= {"name": f"{study.name}-{config.key[:8]}{length}", "mode": "design"}
    fields["design"] = {"strategy": design.strategy, "train": spec.model_dump(mode="json"), "scratch": scratch}
    fields["design"]["loss"] = design.loss.model_dump(mode="json", exclude={"costs"})
    fields["design"]["exits"] = [e.model_dump(mode="json") for e in exits]
    silent = [e.cut for e in config.policy.exits if e.is_none]  # where samples cross to another tier, and links code
    coded = [cut for system in study.systems.values() for cut in system.boundaries]
    fields["space"] |= {"heads": heads, "max_exits": min(len(exits) + len(silent), MOST_EXITS)}
    fields["space"]["cuts"] = {"candidates": list(dict.fromkeys([*(e.cut for e in exits), *silent, *coded]))}
    fields["budget"] |= {"trials": 1, "timeout": None}
    if asked.data is not None:
        fields["data"] |= {"source": asked.data, "args": {}}
    fields |= {"sampler": "auto", "guide": "hypervolume", "pruning": "none"}  # nobody proposes, so nobody is imported
    fields["training"] |= {"start": "bank", "draft": None}
    question = resolve(fields, asked.overrides, Path(f"configuration {config.key}"))
    if not asked.trust:  # what the user names here and now is not in the configuration
        check_named(set(named_paths(question)) & set(named_paths(study)), f"configuration {config.key}")
    return question


def warm_start(config: ExportedConfig) -> WarmStart:
    """The placement of a configuration, to be tried first by a search.

    Raises:
        StudyError: it has no early exit.
    """
    design, exits = _trained(config), active_exits(config)
    if not exits:
        raise StudyError(f"configuration {config.key} has no early exit", do="Leave the warm start out.")
    return WarmStart(name=config.key[:8], strategy=design.strategy, exits=exits, loss=design.loss)


def warm_starts(run: RunDir) -> list[WarmStart]:
    """The designs on a run's fronts, those first that were trained as a whole: they need no training again.

    A point on the bank is a placement of its heads, of which a joint design can be made. That has to be trained, so few
    of many are taken, evenly. Each group is in the order of the devices and of their fronts, and nothing comes twice.

    Raises:
        RunError: the directory holds no run, or no answers yet.
        StudyError: nothing on its fronts has an early exit.
    """
    answers = run.answers()
    whole: dict[str, Design] = {}
    placed: dict[str, Design] = {}
    for point in (point for device in answers.devices for point in device.points):
        design = answers.designs.get(point.cal.design)
        if design is None:  # the unmodified backbone
            continue
        if design.strategy != "separate":
            whole[design.key] = trained_alone(design)
        elif exits := _stops(design, point.cal.policy):
            placed[content_key([(e.cut, e.head.name) for e in exits])] = design.model_copy(update={"exits": exits})
    path = run.path.absolute()
    found = [
        WarmStart(name=f"{path.name} {key[:8]}", run=str(path), strategy=d.strategy, exits=d.exits, loss=d.loss)
        for key, d in (*whole.items(), *_some(list(placed.items())))
    ]
    if not found:
        raise StudyError(f"nothing on the fronts of {run.path} has an early exit", do="Leave the warm start out.")
    return found


def _some(placed: list[T]) -> list[T]:
    last, steps = len(placed) - 1, MOST_PLACED - 1
    return placed if last <= steps else [placed[round(i * last / steps)] for i in range(MOST_PLACED)]


def warmed(study: Study, sources: Sequence[Path]) -> Study:
    """A study that tries what these configurations and runs chose first.

    Args:
        study: To be searched.
        sources: Files that `export --to config` wrote, and run directories.

    Raises:
        StudyError: a file is no configuration, or nothing has an early exit; the study's mode has no use for it.
        RunError: a directory holds no run, or no answers yet.
    """
    starts: list[WarmStart] = []
    for source in sources:
        if not source.exists():
            expected = "a file that `export --to config` wrote, or a run directory"
            raise StudyError(f"there is no {source} to start from", expected=expected)
        starts += warm_starts(RunDir(source)) if source.is_dir() else [warm_start(ExportedConfig.load(source))]
    fields = study.model_dump(mode="json")
    added = [start.model_dump(mode="json") for start in starts]
    return resolve(fields | {"warm_start": [*fields["warm_start"], *added]}, (), Path("the study"))


def active_exits(config: ExportedConfig) -> tuple[ExitSpec, ...]:
    """The trained exits at which somebody may stop, in the order of the cuts."""
    return _stops(_trained(config), config.policy)


def _stops(design: Design, policy: Policy) -> tuple[ExitSpec, ...]:
    active = {(e.cut, e.head) for e in policy.exits}
    return tuple(e for e in design.exits if (e.cut, e.head.name) in active)


def _trained(config: ExportedConfig) -> Design:
    if config.design is None:
        raise StudyError(
            f"configuration {config.key} is the unmodified backbone", do="Export a point that has early exits."
        )
    return config.design


def comparison(config: ExportedConfig, answers: Answers) -> str:
    """The exported point beside the one that replaces it after training, in words.

    That is the cheapest one which is as accurate on calibration; if none is, the most accurate.
    """
    found = next((d for d in answers.devices if d.device == config.device), answers.devices[0])
    point, kept = replacement(config, found)
    lines = []
    if config.pruned:
        trained = len(config.pruned) + len(active_exits(config))
        lines.append(
            f"The exported network was trained with {trained} exits, of which {len(config.pruned)} are not among its "
            f"stops; now it was trained with those {len(active_exits(config))} that are."
        )
    test = config.expected.test
    before = f"{test.accuracy:.2%} on test"
    if found.device == config.device and config.axis in test.costs:
        before += f" at {test.costs[config.axis].mean:.4g} {config.axis} on average"
    after = f"{point.test.accuracy:.2%} on test at {point.test.costs[found.axis].mean:.4g} {found.axis} on average"
    rule = "the cheapest that is as accurate on calibration" if kept else "the most accurate; none reaches it"
    lines.append(f"Exported: {before}. Trained again ({rule}): {after}; point={found.points.index(point)}.")
    return "\n".join(lines)


def replacement(config: ExportedConfig, device: DeviceAnswer) -> tuple[Point, bool]:
    """The point that is as accurate as the exported one on calibration, and whether there is one."""
    wanted = config.expected.cal.accuracy
    as_good = [p for p in device.points if p.cal.accuracy >= wanted - 1e-12]
    if as_good:
        return as_good[0], True
    return max(device.points, key=lambda p: p.cal.accuracy), False
