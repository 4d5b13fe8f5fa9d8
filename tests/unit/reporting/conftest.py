"""Made-up answers that look like a real search: two devices, five points each, seeds, a failed trial."""

from base64 import b64encode
from io import BytesIO
from math import inf

import pytest

from eesearch.core.costs import Axis
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import (
    Answers,
    DesignFacts,
    DeviceAnswer,
    ExitFacts,
    OracleAnswer,
    SeedAnswer,
    StrategyAnswer,
    TrainingCost,
    TrialAnswer,
)
from eesearch.study.examples import COLUMNS, Examples
from eesearch.study.points import Layer, Point, StopFacts, Tried

SAMPLES = 5000
FULL: dict[Axis, float] = {"macs": 125.49e6, "latency_ms": 6.71}
NETWORK = "3fa1c0ffee3fa1c0"

# cuts, thresholds, rates, accuracy on calibration, on test, cost over the backbone's, strategy
POINTS = (
    (("layer1.4",), (-inf,), (1.0,), 0.7012, 0.6954, 0.201, "separate"),
    (("layer1.4", "layer2.3"), (0.8231, -inf), (0.51, 0.49), 0.8410, 0.8388, 0.342, "separate"),
    (("layer1.4", "layer2.3", OUTPUT), (0.9514, 0.9122, -inf), (0.32, 0.41, 0.27), 0.9196, 0.9168, 0.548, "joint"),
    (("layer2.3", OUTPUT), (0.9731, -inf), (0.55, 0.45), 0.9374, 0.9340, 0.697, "joint"),
    (("layer2.3", "layer3.2", OUTPUT), (0.9902, inf, -inf), (0.41, 0.0, 0.59), 0.9392, 0.9352, 0.845, "joint"),
)
SEEDS = (
    ("percentile 2 exits", ("layer1.4", "layer3.2", OUTPUT), 0.9302, 0.9270, 0.742, 0.31),
    ("panda_chain", ("layer1.4", OUTPUT), 0.9210, 0.9188, 0.790, 0.22),
    ("panda_shared", ("layer2.3", OUTPUT), 0.9366, 0.9330, 0.715, 0.38),
    ("th_rule 1 exit", ("layer2.3", OUTPUT), 0.9366, 0.9330, 0.715, 0.38),
)


def evaluation(
    cuts: tuple[str, ...], thresholds: tuple[float, ...], rates: tuple[float, ...], accuracy: float, *, ratio: float,
    strategy: str = "separate",
) -> Evaluation:  # fmt: skip
    stops = tuple(Stop(exit=exit_id(cut), threshold=t) for cut, t in zip(cuts, thresholds, strict=True))
    costs = {
        axis: CostSummary(mean=ratio * full, p95=min(1.02, 1.6 * ratio) * full, worst=1.02 * full)
        for axis, full in FULL.items()
    }
    return Evaluation(
        policy=Policy(stops=stops, criterion="max_prob"), design="" if strategy == "backbone" else "9d1e5a7b03c2f418",
        strategy=strategy, accuracy=accuracy, samples=SAMPLES, exit_rate=rates, costs=costs,
    )  # fmt: skip


def device(name: str, axis: Axis, *, first_cut: str = "layer1.4") -> DeviceAnswer:
    points = []
    for cuts, thresholds, rates, cal, test, ratio, strategy in POINTS:
        named = tuple(first_cut if cut == "layer1.4" else cut for cut in cuts)
        points.append(
            Point(
                cal=evaluation(named, thresholds, rates, cal, ratio=ratio - 0.004, strategy=strategy),
                test=evaluation(named, thresholds, rates, test, ratio=ratio, strategy=strategy),
            )
        )
    whole = (OUTPUT,), (-inf,), (1.0,)
    backbone = Point(
        cal=evaluation(*whole, 0.9372, ratio=1.0, strategy="backbone"),
        test=evaluation(*whole, 0.9346, ratio=1.0, strategy="backbone"),
    )
    measured = axis == "latency_ms"
    return DeviceAnswer(
        device=name, axis=axis, backbone=backbone, points=tuple(points), seeds=tuple(map(seed, SEEDS)),
        oracle=oracle(axis, first_cut), static=(points[0], backbone), overthinking=overthinking(first_cut),
        noise=0.018 if measured else 0.0,
        cautions=("1 of 40 figures never settled: head layer3.2 mlp64-mixed2",) if measured else (),
    )  # fmt: skip


def exit_id(cut: str) -> ExitId:
    return ExitId(network=NETWORK, cut=cut, head=OWN if cut == OUTPUT else "linear-avg1")


def oracle(axis: Axis, first_cut: str) -> tuple[OracleAnswer, ...]:
    """Two paths: one ends at a cut, one at the own classifier."""
    paths = (((first_cut, "layer2.3"), 0.81, 0.30, (0.6, 0.4)), ((first_cut, OUTPUT), 0.9346, 0.45, (0.7, 0.3)))
    return tuple(
        OracleAnswer(exits=tuple(map(exit_id, cuts)), error=1.0 - accuracy, cost=ratio * FULL[axis], exit_rate=rates)
        for cuts, accuracy, ratio, rates in paths
    )


def overthinking(first_cut: str) -> tuple[ExitFacts, ...]:
    return (
        ExitFacts(exit=exit_id(first_cut), accuracy=3477 / SAMPLES, right=3477, lost=61, gained=1257, samples=SAMPLES),
        ExitFacts(exit=exit_id("layer2.3"), accuracy=4194 / SAMPLES, right=4194, lost=40, gained=519, samples=SAMPLES),
    )


def seed(row: tuple) -> SeedAnswer:
    rule, cuts, cal, test, ratio, value = row
    thresholds = (*([0.97] * (len(cuts) - 1)), -inf)
    rates = tuple([1.0 / len(cuts)] * len(cuts))
    return SeedAnswer(
        rule=rule, value=value, enqueued=rule != "th_rule 1 exit",
        point=Point(
            cal=evaluation(cuts, thresholds, rates, cal, ratio=ratio),
            test=evaluation(cuts, thresholds, rates, test, ratio=ratio),
        ),
    )  # fmt: skip


TRIALS = (
    TrialAnswer(
        number=0, state="complete", strategy="separate", origin="bank", value=0.4213, design="9d1e5a7b03c2f418",
        exits=tuple(f"layer{i}.{j}:linear-avg1" for i in (1, 2, 3) for j in range(4)),
        last_accuracy=0.9372, seconds=48.2,
    ),
    TrialAnswer(
        number=1, state="complete", strategy="joint", origin="percentile 2 exits", value=0.4702, design="71c2",
        exits=("layer1.4:linear-avg1", "layer3.2:mlp64-mixed2"), last_accuracy=0.9301, seconds=412.0,
    ),
    TrialAnswer(
        number=2, state="failed", strategy="joint", origin="sampler", exits=("layer2.3:conv32-map",), seconds=3.1,
        error="HeadError: conv32-map does not fit a tap of 64 x 1 x 1. Pool less, or take another head.",
    ),
)  # fmt: skip


def make_answers(**changes: object) -> Answers:
    answers = Answers(
        study="cifar10_resnet56",
        mode="bank",
        data={"train": 50000, "cal": 5000, "test": 5000, "seed": 0, "train_key": "f00dfeed12345678"},
        devices=(device("macs", "macs"), device("cpu:eager:t1:b1", "latency_ms")),
        trials=TRIALS,
        phases={"backbone": 0.0, "train bank": 48.2, "profile": 91.4, "trials": 415.1, "solve": 6.9, "test": 11.8},
        class_names=("airplane", "automobile", "bird", "cat"),
    )  # fmt: skip
    return answers.model_copy(update=changes)


def stop_facts(point: Point) -> Point:
    """The same with what happens at its stops: each costs as much as the ones before it together."""
    rates, k = point.test.exit_rate, len(point.test.exit_rate)
    return point.model_copy(
        update={
            "stops": tuple(
                StopFacts(
                    share=rate,
                    accuracy=None if rate == 0.0 else 0.99 - 0.11 * n,
                    costs={axis: full * (n + 1) / k for axis, full in FULL.items()},
                )
                for n, rate in enumerate(rates)
            )
        }
    )


def baseline(name: str, points: tuple[Point, ...], kind: str = "baseline", worse: float = 1.0) -> Layer:
    """A method that is a little worse than the front."""

    def moved(e: Evaluation) -> Evaluation:
        factor = 1.0 + 0.05 * worse
        costs = {axis: cost.model_copy(update={"mean": factor * cost.mean}) for axis, cost in e.costs.items()}
        return e.model_copy(update={"accuracy": e.accuracy - 0.004 * worse, "costs": costs})

    return Layer(name=name, kind=kind, points=tuple(Point(cal=moved(p.cal), test=moved(p.test)) for p in points))


def make_rich(**changes: object) -> Answers:
    """The same answers with what happens at stops, layers to compare with and figures of trials."""
    plain = make_answers(**changes)
    devices = []
    for device in plain.devices:
        points = tuple(map(stop_facts, device.points))
        worse = [baseline("tried", points[2:]).points[i] for i in (0, 1, 2)]
        devices.append(
            device.model_copy(
                update={
                    "points": points,
                    "backbone": stop_facts(device.backbone),
                    "layers": (baseline("branchynet", points[1:4]), baseline("sdn", points[2:])),
                    "dominated": tuple(Tried(trial=1, point=point) for point in worse),
                    "left_out": 7,
                }
            )
        )
    trials = []
    for n, trial in enumerate(plain.trials):
        known = {"alphas": (0.5,) * len(trial.exits), "elapsed": 48.2 + 412.0 * n}
        volumes = tuple(0.41 + 0.03 * n + 0.02 * k for k in range(len(devices)))
        trials.append(trial.model_copy(update=known | {"hypervolumes": volumes}))
    return plain.model_copy(update={"devices": tuple(devices), "trials": tuple(trials)})


OPTIMISM = ((-0.002, 0.001), (0.0, 0.0035), (0.005, 0.004), (0.01, 0.0045))


def make_promised(**changes: object) -> Answers:
    """The rich answers with what a search of today knows of new samples: the optimism of picks, paired counts."""
    plain = make_rich(**changes)
    devices = []
    for device in plain.devices:
        whole = device.backbone.test.accuracy
        points = tuple(
            point.model_copy(update={"paired": paired(round(SAMPLES * (whole - point.test.accuracy)))})
            for point in device.points
        )
        devices.append(device.model_copy(update={"points": points, "optimism": OPTIMISM}))
    return plain.model_copy(update={"devices": tuple(devices)})


def paired(lost: int) -> Paired:
    """Policy and backbone differ on 200 samples more than they must."""
    return Paired(lost=100 + max(lost, 0), gained=100 - min(lost, 0), samples=SAMPLES)


STRATEGIES = ("separate", "joint", "mixed", "combined", "gated", "layerwise", "freezeout", "distill", "<b>own")
GAP = {"soft accuracy": 0.9310, "hard accuracy": 0.9280, "soft cost": 0.52, "hard cost": 0.551}


def make_compared(**changes: object) -> Answers:
    """The rich answers of a search that tried several strategies: each a little worse; the third stopped early only."""
    plain = make_rich(**changes)
    devices = []
    for device in plain.devices:
        strategies = []
        for n, name in enumerate(STRATEGIES):
            points = baseline(name, device.points, worse=0.5 * n).points if n != 2 else ()
            strategies.append(
                StrategyAnswer(
                    strategy=name, trials=n + 1, designs=len(points) // 5, points=points,
                    free=points[3] if n < 2 else None, half=points[1] if n < 2 else None,
                    hypervolume=0.48 - 0.02 * n if points else None,
                    hypervolume_test=0.47 - 0.02 * n if points else None, last_accuracy=0.9372 - 0.002 * n,
                    cost=TrainingCost(samples=150_000 * (n + 1), forward=1_800_000 * n, backward=900_000 * n),
                    best=n if points else None,
                    best_cost=TrainingCost(samples=150_000, forward=1_800_000, backward=900_000) if points else None,
                )
            )  # fmt: skip
        facts = DesignFacts(trial=1, last_accuracy=0.9282, notes=GAP)
        known = {"strategies": tuple(strategies), "designs": {device.points[0].cal.design: facts}}
        devices.append(device.model_copy(update=known))
    noted = plain.trials[1].model_copy(update={"strategy": "gated", "notes": GAP, "last_accuracy": 0.9282})
    trials = (plain.trials[0], noted, *plain.trials[2:])
    return plain.model_copy(update={"devices": tuple(devices), "trials": trials})


def make_examples(answers: Answers, kind: str = "image") -> Examples:
    """Two dozen samples; the later half leaves at the last stop, and every fifth is answered wrong."""
    from PIL import Image

    count, side = 24, 8
    sheet = Image.new("L", (COLUMNS * side, 2 * side))
    for n in range(count):
        x, y = n % COLUMNS * side, n // COLUMNS * side
        sheet.paste(10 * n, (x, y, x + side - 1, y + side - 1))
    png = BytesIO()
    sheet.save(png, format="PNG")
    classes = max(1, len(answers.class_names))
    labels = [n % classes for n in range(count)]
    said = tuple((label + (n % 5 == 4)) % classes for n, label in enumerate(labels))
    return Examples(
        made_for=answers.key, kind=kind, index=tuple(range(count)), label=tuple(labels),
        sprite=b64encode(png.getvalue()).decode() if kind == "image" else "",
        side=(side, side) if kind == "image" else (0, 0),
        texts=() if kind == "image" else tuple(f"text <b>{n}</b>" for n in range(count)),
        stops={
            device.device: tuple(
                tuple(min(n * 2 * len(p.test.exit_rate) // count, len(p.test.exit_rate) - 1) for n in range(count))
                for p in device.points
            )
            for device in answers.devices
        },
        answers={device.device: (said,) * len(device.points) for device in answers.devices},
    )  # fmt: skip


@pytest.fixture
def answers() -> Answers:
    return make_answers()


@pytest.fixture
def stopped() -> Answers:
    """The rich answers with a trial that was stopped early."""
    plain = make_rich()
    last = plain.trials[2].model_copy(update={
        "number": 3, "state": "pruned", "error": "", "epochs": 2, "elapsed": 875.3,
    })  # fmt: skip
    return plain.model_copy(update={"trials": (*plain.trials, last)})


@pytest.fixture
def rich() -> Answers:
    return make_rich()


@pytest.fixture
def promised() -> Answers:
    return make_promised()


@pytest.fixture
def compared() -> Answers:
    return make_compared()


@pytest.fixture
def examples(rich: Answers) -> Examples:
    return make_examples(rich)


@pytest.fixture
def hostile() -> Answers:
    """Every string of foreign origin attacks the page, plotly, matplotlib's formulas and rich's markup."""
    return make_hostile()


def make_hostile() -> Answers:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)> $x^$ [red]"
    return make_answers(
        study=evil,
        devices=(device(evil, "macs", first_cut=evil).model_copy(update={"noisy": (evil,)}),),
        trials=(TRIALS[2].model_copy(update={"error": evil, "origin": evil, "exits": (evil,)}),),
        phases={evil: 1.0},
        data={evil: evil},
        class_names=(evil,),
    )
