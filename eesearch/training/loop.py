"""The one loop: everything that learns by gradients learns here.

    for each epoch: for each batch:
        rate of each part <- schedule;  loss(model(inputs), labels);  step

A model is any module whose `forward(inputs)` gives a list of logits [N, C]. What learns are *parts* of it, named by
their path (`heads`, `backbone.segments.2`); everything else is frozen: in eval mode, without gradients, out of the
optimizer, and bit-identical afterwards.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from eesearch.core.design import TrainSpec, content_key
from eesearch.core.errors import EesearchError, InputError
from eesearch.core.progress import Progress, silent
from eesearch.training.accelerator import device_of, mixed_precision, moved
from eesearch.training.cache import Caching
from eesearch.training.checkpoint import Checkpoint, tensors_hash, weights_hash
from eesearch.training.losses import Loss, joint_loss
from eesearch.training.models import Alone
from eesearch.training.optimizers import annealed, make_optimizer
from eesearch.training.samples import Batches, Inputs, Samples, derive_seed

Network = TypeVar("Network", bound=nn.Module)
Rate = Callable[[str, int, int], float]
"""`(part, step, steps) -> factor of the learning rate`."""


def unheard(epochs: int) -> None:
    """Nobody listens to a training's epochs."""


@dataclass(frozen=True)
class Phase:
    """One run of the loop.

    Attributes:
        label: Shown with the progress.
        learns: Paths of the parts that learn, in the model.
        loss: Of all logits that the model gives.
        spec: Epochs, batches, optimizer.
        rate: Factor of `spec.lr` for each part at each step; None: `spec.schedule` for all parts. A part whose rate is
            0 is frozen from there on: in eval mode, without gradients.
        model: What is trained; None: the network with its exits. It shares all weights that learn with the network.
        inputs: Makes what the model learns from out of what the phase before learnt from, cached where there is room;
            None: that is it.
        passes: How many of the backbone's segments a sample goes through in each epoch, forward and backward; None:
            all, and from the last to the first that learns.
    """

    label: str
    learns: tuple[str, ...]
    loss: Loss
    spec: TrainSpec
    rate: Rate | None = None
    model: nn.Module | None = None
    inputs: Callable[[Samples, Caching], Samples] | None = None
    passes: tuple[float, float] | None = None

    def lr(self, part: str, step: int, steps: int) -> float:
        """The learning rate of a part at a step."""
        factor = self.rate(part, step, steps) if self.rate else annealed(self.spec.schedule, step / steps)
        return self.spec.lr * factor


def train(
    model: nn.Module,
    phase: Phase,
    samples: Samples,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
    after_epoch: Callable[[int], None] = unheard,
) -> None:
    """Train a model in place; leaves it in eval mode, with the gradient flags that it came with.

    The result is a function of the initial weights, the phase and the samples with their seed: the same, bit for bit,
    on one machine with the same number of threads, whether interrupted and resumed from the checkpoint or not.

    Args:
        model: `forward(inputs) -> list of logits [N, C]`.
        phase: What learns, and how.
        samples: What it learns from.
        checkpoint: Written after each epoch; read first. One that another training made is ignored.
        progress: Called after each batch.
        after_epoch: Called with the number of epochs done, of those that are run now. It may look at the model, whose
            modes it must leave as they are, and it may raise to stop the training. An epoch is told before the
            checkpoint holds it, so that none is passed over in silence by a kill.

    Raises:
        EesearchError: the training diverged.
        InputError: nothing learns; batches of one sample where a batch normalisation learns.
        RunError: the checkpoint cannot be written.
    """
    batches = Batches(samples, phase.spec)
    with _learning(model, phase.learns) as parts:
        _check_normalisation(model, batches)
        training = _Training(model, phase, batches, make_optimizer(parts, phase.spec))
        made_for = content_key(training.identity(), checkpoint.owner) if checkpoint else ""
        saved = checkpoint.load(made_for) if checkpoint else None
        first = training.restore(saved) if saved else 0
        for epoch in range(first, phase.spec.epochs):
            training.run_epoch(epoch, progress)
            after_epoch(epoch + 1)
            if checkpoint:
                checkpoint.save({"made_for": made_for, "epoch": epoch + 1, **training.state()})


def train_backbone(
    backbone: Network,
    samples: Samples,
    spec: TrainSpec,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> Network:
    """Train a network that has no exits yet, the reference of a study; returns a trained copy, in eval mode.

    Args:
        backbone: `forward(x) -> logits [N, C]`; stays as it is.
        samples: The training split with the seed: `Samples.of(dataset.train, seed)`.
        spec: The study's training section.
        checkpoint: As in `train`.
        progress: Called after each batch.

    Raises:
        EesearchError: as in `train`.
        InputError: the transformations, or the size of the batches, do not go with the network.
        RunError: the checkpoint cannot be written.
    """
    trained = copy.deepcopy(backbone)
    phase = Phase("train backbone", ("network",), joint_loss(()), spec)
    train(Alone(trained), phase, samples, checkpoint=checkpoint, progress=progress)
    return trained


@dataclass(frozen=True, eq=False)
class _Training:
    """A training under way: what changes (weights, optimizer) and what changes it."""

    model: nn.Module
    phase: Phase
    batches: Batches
    optimizer: Optimizer
    frozen: set[str] = field(default_factory=set)

    def run_epoch(self, epoch: int, progress: Progress) -> None:
        """One pass over the samples."""
        steps = len(self.batches) * self.phase.spec.epochs
        device = device_of(self.model)
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):  # dropout: by epoch, so that a resumed training draws the same
            torch.manual_seed(derive_seed("dropout", self.batches.samples.seed, epoch))
            for step, (inputs, labels) in enumerate(self.batches.epoch(epoch), start=epoch * len(self.batches)):
                self._step(inputs, labels, step, steps)
                progress(self.phase.label, step + 1, steps)
        if not all(bool(p.isfinite().all()) for group in self.optimizer.param_groups for p in group["params"]):
            raise self._diverged("weights that are not finite", epoch)

    def _step(self, inputs: Inputs, labels: Tensor, step: int, steps: int) -> None:
        rates = {part: self.phase.lr(part, step, steps) for part in self.phase.learns}
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        for part in rates.keys() - self.frozen:
            if rates[part] == 0.0:
                self._freeze(part)
        device = device_of(self.model)
        with mixed_precision(device):
            outputs = self.model(moved(inputs, device))
        said = [logits.float() for logits in outputs]
        loss = self.phase.loss(said, labels.to(device, non_blocking=True), step / steps)
        if not math.isfinite(loss.item()):
            raise self._diverged(f"a loss of {loss.item()}", step // len(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _freeze(self, part: str) -> None:
        """It has learnt enough: the optimizer passes over what has no gradient."""
        self.frozen.add(part)
        for parameter in self.model.get_submodule(part).parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        _set_modes(self.model, tuple(part for part in self.phase.learns if part not in self.frozen))

    def _diverged(self, got: str, epoch: int) -> EesearchError:
        return EesearchError(
            f"the training '{self.phase.label}' diverged in epoch {epoch + 1}",
            got=got,
            expected="a finite loss",
            do=f"Lower the learning rate (lr is {self.phase.spec.lr}), or scale the input.",
        )

    def identity(self) -> str:
        """What this training starts from, as far as the loop can see: all but the loss."""
        samples = self.batches.samples
        seen = [tensors_hash(named) for named in (samples.named_inputs, {"labels": samples.labels})]
        spec = self.phase.spec.model_dump(mode="json")
        return content_key(self.phase.label, self.phase.learns, spec, samples.seed, seen, weights_hash(self.model))

    def state(self) -> dict[str, Any]:
        """What the next epoch needs; order, transformations and dropout follow from the seed and the epoch."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, saved: Mapping[str, Any]) -> int:
        """Go back to a saved state; returns the number of epochs done."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        return int(saved["epoch"])


@contextmanager
def _learning(model: nn.Module, learns: tuple[str, ...]) -> Iterator[dict[str, list[nn.Parameter]]]:
    """Let these parts learn and freeze the rest; parameters that came frozen stay frozen.

    Yields:
        The learning parameters of each part.
    """
    parts = {part: [p for p in model.get_submodule(part).parameters() if p.requires_grad] for part in learns}
    learning = {p for parameters in parts.values() for p in parameters}
    if not learning:
        raise InputError("nothing can learn", got=f"no trainable parameters in {list(learns)}")
    frozen = [p for p in model.parameters() if p.requires_grad and p not in learning]
    for parameter in frozen:
        parameter.requires_grad_(False)
    _set_modes(model, learns)
    try:
        yield {part: parameters for part, parameters in parts.items() if parameters}
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for parameter in learning:
            parameter.requires_grad_(True)  # what was frozen on the way
            parameter.grad = None
        model.eval()


def _set_modes(model: nn.Module, learns: tuple[str, ...]) -> None:
    """Training mode where something learns, with whatever is shared with it (dropout); all that is frozen evaluates."""
    model.eval()
    for part in map(model.get_submodule, learns):
        if not _frozen(part.parameters()):
            part.train()
    for module in model.modules():
        if _frozen(module.parameters(recurse=False)):
            module.training = False  # a batch normalisation must not go on measuring


def _frozen(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether there are parameters, and none of them learns."""
    needed = [parameter.requires_grad for parameter in parameters]
    return bool(needed) and not any(needed)


def _check_normalisation(model: nn.Module, batches: Batches) -> None:
    if 1 in batches.sizes and any(isinstance(m, _BatchNorm) and m.training for m in model.modules()):
        raise one_sample_refused("batches of one sample", "batch_size")


def one_sample_refused(got: str, field: str) -> InputError:
    """The error for a batch normalisation that would learn from one sample at a time.

    Args:
        got: What would make it.
        field: Of the study, that has to be raised.
    """
    return InputError(
        "a batch normalisation cannot learn from one sample",
        got=got,
        expected="batches of at least 2 samples",
        do=f"Raise {field}, or use a network without batch normalisation.",
    )
