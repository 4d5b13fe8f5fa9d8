"""BranchyNet's own designs (Teerapittayanon et al. 2016): where branches hang, what they are, how they are trained.

Places and layers are those of its code (github.com/kunglab/branchynet, networks/), which differ from the paper's text
here and there: the branches of B-AlexNet hang behind the second and third convolution. From the paper: the thresholds
of entropy (in nats) and the figures of its table 1, both screened on test there; and that weights of 1.0 for the first
branch and 0.3 for the others did best, which is told of B-AlexNet and taken for B-LeNet, too.

Approximated: B-ResNet hangs on a ResNet-56 and not on a ResNet-110, of which no trained weights are at hand: its second
branch, there behind a third of the blocks, hangs behind the first third here, too. The two linear layers at the end of
its first branch have nothing between them: they are one linear layer here, which says the same and costs less. Maps
keep their size where its code trims them by 2 pixels. Local response normalisation is left out everywhere, as in
`eesearch.nets.classics`. All branches start from random weights and the trained network, as in its code, and train as
many epochs as each of our joint designs (B-ResNet two, with Adam); there it was twice those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from eesearch.core.design import ExitSpec, HeadSpec
from eesearch.core.registry import HEADS
from eesearch.nets.zoo import CifarBlock
from eesearch.study.files import load_study
from eesearch.study.question import Study

Shape = tuple[int, ...]


@HEADS.register("branchy_lenet")
def branchy_lenet(features: Shape, classes: int, spec: HeadSpec) -> nn.Module:
    """The branch of B-LeNet: a 3x3 convolution between two poolings, and a linear layer."""
    channels, side, _ = features
    pools = [[nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()] for _ in range(2)]
    quarter = -(-side // 4)
    return nn.Sequential(
        *pools[0], nn.Conv2d(channels, 10, 3, padding=1), *pools[1], nn.Flatten(), nn.Linear(10 * quarter**2, classes)
    )


@HEADS.register("branchy_alexnet_first")
def branchy_alexnet_first(features: Shape, classes: int, spec: HeadSpec) -> nn.Module:
    """The first branch of B-AlexNet: two 3x3 convolutions between two poolings, and a linear layer."""
    return _between_pools(features, classes, convolutions=2)


@HEADS.register("branchy_alexnet_second")
def branchy_alexnet_second(features: Shape, classes: int, spec: HeadSpec) -> nn.Module:
    """The second branch of B-AlexNet: one 3x3 convolution between two poolings, and a linear layer."""
    return _between_pools(features, classes, convolutions=1)


@HEADS.register("branchy_resnet_first")
def branchy_resnet_first(features: Shape, classes: int, spec: HeadSpec) -> nn.Module:
    """The first branch of B-ResNet: two 3x3 convolutions, a pooling, and a linear layer."""
    channels, side, _ = features
    layers = _convolutions(channels, 2)
    return nn.Sequential(*layers, _halved(), nn.Flatten(), nn.Linear(32 * (side // 2) ** 2, classes))


@HEADS.register("branchy_resnet_second")
def branchy_resnet_second(features: Shape, classes: int, spec: HeadSpec) -> nn.Module:
    """The second branch of B-ResNet: a residual block and a linear layer."""
    channels, side, _ = features
    return nn.Sequential(CifarBlock(channels, channels, 1), nn.Flatten(), nn.Linear(channels * side**2, classes))


def _between_pools(features: Shape, classes: int, *, convolutions: int) -> nn.Module:
    channels, side, _ = features
    layers = _convolutions(channels, convolutions)
    return nn.Sequential(
        nn.ReLU(), _halved(), *layers, _halved(), nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, classes)
    )


def _convolutions(channels: int, count: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in [channels, *[32] * (count - 1)]:
        layers += [nn.Conv2d(width, 32, 3, padding=1), nn.ReLU()]
    return layers


def _halved() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _branch(cut: str, kind: str, weight: float) -> ExitSpec:
    """A branch that reads the whole map; the loss of the own classifier weighs 1."""
    return ExitSpec(cut=cut, head=HeadSpec(kind=kind, pool="none"), alpha=weight)


FIRST = 1.0 / 0.3
"""Weight of the first branch, where the others and the own classifier have 1."""


@dataclass(frozen=True)
class Anchor:
    """A row of the paper's table 1.

    Attributes:
        accuracy: Of the branchy network, in %; `backbone`: of the network.
        speedup: On its CPU, at batch 1.
    """

    accuracy: float
    backbone: float
    speedup: float


@dataclass(frozen=True)
class Network:
    """A row of the table.

    Attributes:
        study: Our question: a shipped study.
        data: Name of the `.npz` file; none: the study says.
        weights: File of pretrained weights; none: the study trains the network.
        branches: BranchyNet's design.
        thresholds: Of its branches, in nats: a sample leaves whose entropy is below.
        certified: The loss that is certified.
        minutes: That a seed takes, about, on one core.
        changes: Of the study.
        joint: Changes of how the branches are trained, where they do not train as our designs do.
    """

    study: str
    data: str
    weights: str
    branches: tuple[ExitSpec, ...]
    thresholds: tuple[float, ...]
    paper: Anchor
    certified: str
    minutes: float
    changes: tuple[str, ...] = ()
    joint: Mapping[str, object] = field(default_factory=dict)

    def question(self, seed: int, device: str, folders: tuple[Path, Path], trials: int) -> Study:
        """Our study of one seed: the bank and so many designs; half of calibration is kept to certify on."""
        data, models = folders
        settings = [f"seed={seed}", f"devices=['{device}']", f"budget.trials={trials + 1}", "budget.timeout=null"]
        settings += [f"data.source={data / self.data}"] if self.data else []
        settings += [f"backbone.weights={models / self.weights}"] if self.weights else []
        settings += ["data.certification=0.5", "verify.points=0", *self.changes]
        return load_study(self.study, settings)

    def design(self, study: Study, weights: Path) -> Study:
        """BranchyNet's design from the same trained network, on the same samples, trained as ours but for `joint`."""
        fields = study.model_dump(mode="json")
        fields["backbones"][0]["weights"] = str(weights)
        exits = [branch.model_dump(mode="json") for branch in self.branches]
        space = {"cuts": {"candidates": [b.cut for b in self.branches]}, "heads": [e["head"] for e in exits]}
        fields["space"] = space | {"criteria": ["entropy"], "gates": False, "max_exits": len(exits)}
        fields["design"] = {"strategy": "joint", "exits": exits, "train": fields["training"]["joint"] | self.joint}
        return Study.model_validate(fields | {"name": f"{study.name}_branchynet", "mode": "design"})


LENET = Network(
    study="mnist_lenet",
    data="mnist.npz",
    weights="",
    branches=(_branch("conv1", "branchy_lenet", FIRST),),
    thresholds=(0.025,),
    paper=Anchor(99.25, 99.20, 5.4),
    certified="0.5%",
    minutes=25,
)

NETWORKS = {
    "lenet": LENET,
    "alexnet": Network(
        study="cifar10_alexnet",
        data="cifar10.npz",
        weights="",
        branches=(_branch("conv2", "branchy_alexnet_first", FIRST), _branch("conv3", "branchy_alexnet_second", 1.0)),
        thresholds=(0.0001, 0.05),
        paper=Anchor(79.19, 78.38, 1.5),
        certified="1%",
        minutes=110,
    ),
    "resnet": Network(
        study="cifar10_resnet56",
        data="cifar10.npz",
        weights="cifar10_resnet56.safetensors",
        branches=(_branch("layer1.0", "branchy_resnet_first", 1.0), _branch("layer1.8", "branchy_resnet_second", 1.0)),
        thresholds=(0.3, 0.2),
        paper=Anchor(79.17, 80.70, 1.9),
        certified="1%",
        minutes=80,
        joint={"epochs": 2, "optimizer": "adam", "lr": 0.001},  # as its authors; SGD's first steps ruin the network
    ),
}

_DIGITS = (
    "name=digits_lenet",
    "backbone.args={classes: 10, side: 8}",
    "data={source: 'eesearch.training.data:digits', calibration: {from: train, share: 0.4}}",
    "data.certification=0.5",
    "input={scale: 0.0625, mean: [0.3], std: [0.37]}",
    "training.epochs=15",
    "training.batch_size=64",
    "training.heads={epochs: 30, batch_size: 128, lr: 0.01}",
    "training.joint={epochs: 15, batch_size: 64, optimizer: adam, lr: 0.002}",
    "measuring={rounds_max: 5, warmup_max: 0.2, processes: 1}",
    "budget.solve=5s",
)
QUICK = {
    "lenet": Network(
        study="mnist_lenet",
        data="",
        weights="",
        branches=LENET.branches,
        thresholds=LENET.thresholds,
        paper=LENET.paper,
        certified="3%",
        minutes=1.5,
        changes=_DIGITS,
    )
}
"""LeNet on scikit-learn's digits."""
