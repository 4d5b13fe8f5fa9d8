"""`ExportedConfig`: one chosen point as a file, to be trained again, searched from, or read by a person."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

import eesearch
from eesearch.core.costs import Axis
from eesearch.core.design import AnyDesign, Design, Value, content_key
from eesearch.core.errors import RunError, StudyError
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy
from eesearch.core.registry import STRATEGIES
from eesearch.study.answers import DeviceAnswer
from eesearch.study.files import validate
from eesearch.study.points import Point, StopFacts
from eesearch.study.question import Study
from eesearch.study.run import Run

KIND = "eesearch-config"


class Expected(Value):
    """What the chosen policy did: on the split it was chosen on, and on test."""

    cal: Evaluation
    test: Evaluation


class Provenance(Value):
    """Where a configuration comes from; no part of its key.

    Attributes:
        eesearch: Version.
        torch: Version.
        data: Content hash of each split.
        backbone: Key of the trained backbone's code and weights.
        run: Name of the run directory.
        created: UTC, ISO 8601.
    """

    eesearch: str
    torch: str
    data: dict[str, str]
    backbone: str
    run: str
    created: str


class ExportedConfig(Value):
    """One chosen point: the question it answers, what was trained, where samples leave, what that is expected to do.

    Attributes:
        study: The resolved study, as a study file has it.
        design: What was trained; None: nothing, this is the unmodified backbone.
        policy: Stops, thresholds, criterion.
        fits: Deployed values of each kind of fit, a row per stop of the network (a last resort has none).
        device: On whose front the point lies.
        axis: What that front minimises beside the error.
        stops: What happens at each stop, on test.
        pruned: Exits that were trained and at which nobody stops, as `cut:head`.
        provenance: Where it comes from; None in a file that a person wrote.
        key: Content key of everything but itself and the provenance.
    """

    version: Literal[1] = 1
    kind: Literal["eesearch-config"] = "eesearch-config"
    study: dict[str, Any]
    design: AnyDesign | None
    policy: Policy
    fits: dict[str, tuple[tuple[float, ...], ...]]
    device: str
    axis: Axis
    expected: Expected
    stops: tuple[StopFacts, ...] = ()
    pruned: tuple[str, ...] = ()
    provenance: Provenance | None = None
    key: str = ""

    @property
    def content(self) -> str:
        """What `key` has to be."""
        return content_key(json.loads(self.model_dump_json(exclude={"key", "provenance"})))

    def question(self) -> Study:
        """The study as a value.

        Raises:
            StudyError: it has mistakes.
        """
        return validate(Study, self.study, "the configuration's study")

    def to_text(self, form: Literal["json", "yaml"]) -> str:
        """The file's text; `load` reads both forms."""
        fields = json.loads(self.model_dump_json())
        if form == "json":
            return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)

    @classmethod
    def load(cls, path: Path | str) -> ExportedConfig:
        """Read a configuration: JSON or YAML.

        Raises:
            StudyError: unreadable, another kind of file, of another version, with mistakes, or changed since.
        """
        fields = _fields(Path(path))
        config = validate(cls, fields, str(path))
        if not config.key:
            return config.model_copy(update={"key": config.content})
        if config.key != config.content:
            raise StudyError(
                f"{path} was edited by hand: its key is not that of its content",
                got=config.key,
                expected=config.content,
                do="Restore the file; or, if the change is meant, delete its line `key` to accept it.",
            )
        return config


def _fields(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StudyError(f"cannot read {path}", got=error, expected="a file that `--to config` wrote") from None
    if not isinstance(fields, dict) or fields.get("kind") != KIND:
        got = type(fields).__name__ if not isinstance(fields, dict) else f"kind {fields.get('kind')!r}"
        raise StudyError(
            f"{path} is no exported configuration",
            got=got,
            expected=f"kind: {KIND}",
            do="Make one with `eesearch export RUN --pick SEL --to config --out DIR`.",
        )
    if fields.get("version") != 1:
        raise StudyError(
            f"{path} has version {fields.get('version')!r}",
            expected="version 1",
            do="Read it with the eesearch that wrote it, or export it again.",
        )
    return fields


def config_of(
    run: Run, device: DeviceAnswer, point: Point, fits: dict[str, tuple[tuple[float, ...], ...]]
) -> ExportedConfig:
    """The configuration of a point of a run.

    Args:
        run: Where it comes from.
        device: On whose front it lies.
        point: The point.
        fits: Deployed values of each kind of fit, a row per stop of the network.

    Raises:
        RunError: the run does not tell how the point's network was trained.
    """
    design = design_of(run, point)
    policy = point.cal.policy
    active = {f"{e.cut}:{e.head}" for e in policy.exits}
    trained = [f"{e.cut}:{e.head.name}" for e in design.exits] if design else []
    config = ExportedConfig(
        study=json.loads(run.directory.study().model_dump_json()),
        design=design,
        policy=policy,
        fits=fits,
        device=device.device,
        axis=device.axis,
        expected=Expected(cal=point.cal, test=point.test),
        stops=point.stops,
        pruned=tuple(name for name in trained if name not in active),
        provenance=Provenance(
            eesearch=eesearch.__version__,
            torch=str(torch.__version__),
            data=run.answers.data["hashes"],
            backbone=device.backbone.cal.policy.exits[-1].network,
            run=run.directory.path.resolve().name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
    return config.model_copy(update={"key": config.content})


def design_of(run: Run, point: Point) -> Design | None:
    """What was trained to get a point's network; None for the unmodified backbone.

    Raises:
        RunError: the answers do not tell.
    """
    key = point.cal.design
    if key and key not in run.answers.designs:
        raise RunError(
            f"{run.directory.path} does not tell how the network of design {key} was trained",
            do="Run `eesearch search` with the same study and --run again: it trains nothing anew and notes it.",
        )
    return run.answers.designs.get(key)


def stop_alphas(config: ExportedConfig) -> tuple[float, ...]:
    """Weight of the loss of each stop of the network in further training (eq. 6); 1 for the own classifier.

    A strategy that knows no weights trained each exit as if it were alone: 1 for all.
    """
    known: dict[tuple[str, str], float] = {}
    if config.design is not None and "alpha" in STRATEGIES[config.design.strategy].uses:
        known = {(e.cut, e.head.name): e.alpha for e in config.design.exits}
    weights = {**known, **{(e.cut, e.head): 0.0 for e in config.policy.exits if e.is_none}}  # which learns nothing
    return tuple(weights.get((e.cut, e.head), 1.0) for e in config.policy.exits if not e.is_last_resort)
