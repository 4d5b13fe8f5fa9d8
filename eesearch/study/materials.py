"""Everything that a study needs before its first trial: data, a trained backbone, what its parts cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eesearch.core.costs import Profile
from eesearch.core.design import HeadSpec, content_key
from eesearch.core.errors import DataError, ModelError, StoreError
from eesearch.core.progress import Progress, silent
from eesearch.core.store import TEXT, Store
from eesearch.core.tables import ExitTable
from eesearch.costs.devices import parse_device
from eesearch.costs.profile import profile
from eesearch.nets.adapters import adapter_of
from eesearch.nets.inputs import Normalize, NormalizeViews, Preprocessed, Resize
from eesearch.nets.modes import evaluating
from eesearch.nets.sources import build_model, load_weights, normalization_of
from eesearch.nets.split import Backbone, split
from eesearch.seeding.placement import percentile
from eesearch.study.drafts import draft_rows
from eesearch.study.heads import fitting_heads
from eesearch.study.named import remember
from eesearch.study.profiling import any_profile
from eesearch.study.question import InputSpec, Study
from eesearch.study.rundir import RunDir
from eesearch.study.warm import check_warm_starts, inherit_questions, warm_runs
from eesearch.training.accelerator import CPU, find_device, placed
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import Calibration, Dataset, load_dataset
from eesearch.training.loop import one_sample_refused, train_backbone
from eesearch.training.samples import Samples
from eesearch.training.texts import check_padding, check_vocabulary

log = logging.getLogger(__name__)

Arrays = tuple[dict[str, NDArray[np.generic]], dict[str, str]]


def recall(store: Store, kind: str, key: str) -> Arrays | None:
    """An entry of the store; None, with a warning, if it is damaged: it can be made again."""
    try:
        return store.get(kind, key)
    except StoreError as error:
        log.warning("%s It is made again.", error)
        return None


def recall_table(store: Store, key: str, samples: str) -> ExitTable | None:
    """A table of the store, if it is of these samples (`Split.key`): of a warm start it may be of others; else None."""
    kept = recall(store, "table", key)
    return ExitTable.from_arrays(*kept) if kept is not None and kept[1].get("samples") == samples else None


def recall_text(store: Store, kind: str, key: str) -> str | None:
    """As `recall`, of a text."""
    kept = recall(store, kind, key)
    return None if kept is None else kept[1].get(TEXT)


@dataclass(eq=False)
class Stopwatch:
    """Wall seconds by phase."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Materials:
    """What all trials of a study share.

    Attributes:
        backbone: Trained, cut where the space allows.
        heads: The head designs that fit each cut, by its name.
        profiles: One per device or system of the study, in its order.
        store: Where tables, weights and fits are kept.
        fresh: The same network with random weights, where the study starts from them.
        members: Of a study of several networks, each one's own by its name; `backbone` is then the reference.
        train: Of a network that is trained when a trial proposes it: does that, and gives it with the same cuts.
        untrained: Of such a network: key of what `train` makes.
    """

    study: Study
    dataset: Dataset
    backbone: Backbone
    heads: Mapping[str, tuple[HeadSpec, ...]]
    profiles: tuple[Profile, ...]
    store: Store
    watch: Stopwatch
    fresh: Backbone | None = None
    members: Mapping[str, Materials] = field(default_factory=dict)
    train: Callable[[], Backbone] | None = None
    untrained: str = ""

    @property
    def key(self) -> str:
        """Of the trained backbone, even before it is trained."""
        return self.untrained or self.backbone.key


@dataclass(frozen=True, eq=False)
class Given:
    """A live model and data set, instead of those that the study names."""

    model: nn.Module
    dataset: Dataset


def prepare(study: Study, run: RunDir, *, given: Given | None = None, progress: Progress = silent) -> Materials:
    """Load or train, split, and measure whatever is not in the run directory yet.

    Raises:
        InputError: of the part that cannot be used.
    """
    for device in study.measured:
        parse_device(device)  # refused before anything else is done
    watch = Stopwatch()
    with watch.phase("load"):
        dataset = load_study_data(study) if given is None else given.dataset
        backbone = load_backbone(study, dataset.train.x[:2], model=given.model if given else None)
        check_classes(backbone, dataset)
        draft_rows(study, dataset.train.y)  # refused now, if at all
        check_batches(study, backbone, is_trained=study.backbone.is_trained or given is not None)
        scratch = study.training.start == "scratch" or (study.design is not None and study.design.scratch)
        fresh = _fresh(study, backbone) if scratch else None
    if given is None:
        remember(study)
    check_inputs(study, run, dataset, {"network": backbone.key})
    untrained, backbone = backbone, thinned(backbone, study.space.cuts.max_cuts)
    heads = fitting_heads(study.space, backbone)
    with watch.phase("profile"):  # weights do not matter, and a device that cannot be measured is told at once
        profiles = tuple(any_profile(study, run, d, (backbone, heads), progress) for d in study.devices)
    if not study.backbone.is_trained and given is None:
        with watch.phase("train backbone"):
            trained = trained_backbone(study, dataset, untrained, run, progress)
        backbone = trained.keep([cut.name for cut in backbone.cuts])
    fresh = fresh and fresh.keep([cut.name for cut in backbone.cuts])
    return Materials(study, dataset, backbone, heads, profiles, reusing(study, run), watch, fresh)


def reusing(study: Study, run: RunDir) -> Store:
    """The run's store; networks and tables that it lacks are copied from the runs that the warm starts come from."""
    return Store(run.store.root, [Path(other) / "store" for other in warm_runs(study)])


def check_inputs(study: Study, run: RunDir, dataset: Dataset, networks: Mapping[str, str]) -> None:
    """Refuse to go on with other data or networks, or to learn from those that the certification share came from.

    Raises:
        RunError: so.
    """
    splits = {f"{each.name} split": each.key for each in dataset.splits}
    run.check_inputs({**splits, **networks})
    if dataset.cert is not None:
        check_warm_starts(study, dataset.cal.key)
    inherit_questions(run, study)


def _fresh(study: Study, backbone: Backbone) -> Backbone:
    """The study's network, before any training.

    Raises:
        ModelError: what makes the network trains it, too.
    """
    plain = study.backbone.bare
    fresh = load_backbone(study.model_copy(update={"backbones": (plain,)}), backbone.example.numpy())
    if study.backbone.is_trained and fresh.key == backbone.key:
        do = "Let it make untrained ones, and name the file of weights in the study."
        raise ModelError(f"{plain.model} makes trained networks only", expected="random weights, from scratch", do=do)
    return fresh


def load_study_data(study: Study) -> Dataset:
    """The study's data set, checked.

    Thresholds chosen on samples that the network has learnt are worth nothing. So where the study says nothing, a
    network that comes with weights is calibrated on one half of the test split, and reported on the other.
    """
    if study.data.source.startswith("given:"):
        raise DataError(
            f"the data {study.data.source} were given as arrays, and are not there any more",
            do="Go on from where they are: eesearch.search with the same model and data.",
        )
    data = study.data
    return load_dataset(
        data.source,
        data.args,
        calibration=calibration_of(study),
        certification=data.certification,
        class_weights=data.class_weights,
        tokenizing=data.tokenizing,
        seed=study.seed,
    )


def calibration_of(study: Study) -> Calibration:
    """Where the calibration split comes from, if the data have none of their own; see `load_study_data`."""
    learnt = any(spec.is_trained for spec in study.backbones)
    default = Calibration(origin="test", share=0.5) if learnt else Calibration()
    return study.data.calibration or default


def load_backbone(study: Study, example: NDArray[np.generic], *, model: nn.Module | None = None) -> Backbone:
    """The study's network, with its weights if it names any, cut at every candidate.

    Args:
        study: Names model, weights, preprocessing and cuts.
        example: Raw samples. [N, ...]
        model: A live network, instead of the one that the study names.

    Raises:
        ModelError: it cannot be imported, built or loaded.
        DataError: the tokenizer of the data gives tokens that it has no embedding for.
        SplitError: it cannot be cut.
    """
    if model is None:
        model = study_model(study)
    if study.data.tokenizer:
        check_vocabulary(model, np.asarray(example), study.data.tokenizer)
        check_padding(model, study.data.tokenizer)
    classes, first = study.backbone.classes, first_module(study.input, model)
    cuts, x = study.space.cuts.candidates, torch.from_numpy(np.array(example))
    if classes:
        _check_order(Preprocessed(first, model), x, classes)
    return split(Preprocessed(first, model, classes), x, cuts if cuts == "auto" else list(cuts))


def study_model(study: Study) -> nn.Module:
    """The network that a study names, with its weights if it names any.

    Raises:
        ModelError: it cannot be imported, built or loaded.
    """
    model = build_model(study.backbone.model, study.backbone.args, study.seed)
    if study.backbone.weights is not None:
        load_weights(model, Path(study.backbone.weights).expanduser())
    return model


def first_module(spec: InputSpec, model: nn.Module) -> nn.Module:
    """What is done to raw samples before a model reads them; numbers of tokens stay as they are.

    Raises:
        ModelError: the model is to say it, and does not.
    """
    adapter = adapter_of(model)
    if spec.tokens or (adapter is not None and adapter.reads_tokens):
        return nn.Identity()
    scale, mean, std = spec.scale, spec.mean, spec.std
    if spec.normalize == "model":
        scale, (mean, std) = 1 / 255, normalization_of(model)
    first: nn.Module = (NormalizeViews if spec.views else Normalize)(scale, mean, std)
    return first if spec.resize is None else nn.Sequential(first, Resize(spec.resize))


def _check_order(network: nn.Module, x: Tensor, classes: Sequence[int]) -> None:
    with evaluating(network), torch.no_grad():
        outputs = network(x).shape[-1]
    if outputs != len(classes):
        raise ModelError("its `classes` do not fit the model", got=f"{len(classes)} numbers, {outputs} outputs")


def check_classes(backbone: Backbone, dataset: Dataset) -> None:
    """Refuse a network whose outputs are not the classes of the data, or that has no embedding for some token.

    Raises:
        ModelError: other outputs.
        DataError: a token without an embedding.
    """
    if dataset.tokenizer:
        for each in dataset.splits:
            check_vocabulary(backbone, each.x, dataset.tokenizer)
    if backbone.classes != dataset.classes:
        raise ModelError(
            f"network {backbone.name} does not fit the data" if backbone.name else "the model does not fit the data",
            got=f"{backbone.classes} outputs",
            expected=f"one for each of the {dataset.classes} classes",
            do="Make the model with so many outputs, by its args, or check the labels of the data.",
        )


def check_batches(study: Study, backbone: nn.Module, *, is_trained: bool) -> None:
    """Refuse trainings in batches of one sample where the network has batch normalisations; heads are seen later.

    Args:
        study: Says how the network is trained, and the designs that the search proposes.
        backbone: The network.
        is_trained: Whether it comes trained.

    Raises:
        InputError: so.
    """
    sections = {} if is_trained else {"training.batch_size": study.training.backbone}
    if study.space.trained and study.mode != "design":
        sections["training.joint.batch_size"] = study.training.joint
    if study.design is not None and study.design.strategy != "separate":
        sections["design.train.batch_size"] = study.design.train
    alone = [field for field, spec in sections.items() if spec.batch_size == 1 and spec.epochs]
    if alone and any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        raise one_sample_refused(f"{alone[0]}: 1", alone[0])


def backbone_key(study: Study, untrained: Backbone, data: str) -> str:
    """Key of the weights that the study's `training` makes of an untrained network on a training split."""
    return content_key("backbone", untrained.key, data, study.training.backbone.model_dump(mode="json"), study.seed)


def trained_backbone(study: Study, dataset: Dataset, backbone: Backbone, run: RunDir, progress: Progress) -> Backbone:
    """The backbone after the study's `training`, from the store if it was trained before."""
    spec = study.training.backbone
    key = backbone_key(study, backbone, dataset.train.key)
    kept = recall(reusing(study, run), "weights", key)
    if kept is not None:
        backbone.load_any({name: torch.from_numpy(array) for name, array in kept[0].items()})
        return backbone
    log.info("training the backbone: %d epochs", spec.epochs)
    checkpoint = Checkpoint(run.path / "checkpoints" / key)
    samples = Samples.of(dataset.train, study.seed)
    with placed(backbone, find_device(study.resources.accelerator)):
        trained = train_backbone(backbone, samples, spec, checkpoint=checkpoint, progress=progress)
    trained.to(CPU)
    state = trained.original_state()  # wherever it is cut
    run.store.put("weights", key, {name: t.numpy() for name, t in state.items()}, {"study": study.name})
    checkpoint.clear()
    return trained


def thinned(backbone: Backbone, max_cuts: int | None) -> Backbone:
    """At most `max_cuts` cuts, at even shares of the backbone's MACs."""
    if max_cuts is None or len(backbone.cuts) <= max_cuts:
        return backbone
    macs = profile(backbone, {}, "macs", decisions=()).macs_prefix
    kept = percentile(np.array(macs), max_cuts)
    return backbone.keep([backbone.cuts[k].name for k in kept])
