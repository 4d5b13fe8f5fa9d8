"""Other people's tools in `search_cost.py`: Ray Tune with its own OptunaSearch and ASHA, and earlyon.

earlyon is no dependency of ours: `pip install --no-deps earlyon==0.3.0` beside us; without it its part is left out, and
told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from arena import Arena, Found, MissingRivalError
from rivals import Stopwatch, near
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eesearch.core.front import MAX_DROP, hypervolume
from eesearch.core.policy import Policy, Stop
from eesearch.drivers.samplers import distributions
from eesearch.exits.evaluate import evaluate
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.inputs import Preprocessed
from eesearch.nets.vision import torchvision
from eesearch.study.joint_trials import JointTrials
from eesearch.study.materials import first_module, prepare, study_model
from eesearch.study.problem import Problem
from eesearch.study.question import Study
from eesearch.study.rundir import open_run
from eesearch.training.collect import collect
from eesearch.training.data import Split

GRACE_S = 120.0
"""What Ray's own clock is longer by than ours: preparing, and looking at test, are not charged."""

ASHA_EPOCHS = 4
"""Of a trial that ASHA never stops; one that it stops at once has one, as everybody's."""

EARLYON_SHARES = (1 / 3, 2 / 3)
"""Where its two exits lie."""

DROPS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
"""Accuracy budgets that earlyon is asked for in turn: each gives one policy."""


def ray_asha(arena: Arena, seed: int) -> list[Found]:
    """Ray Tune with its stock OptunaSearch and ASHA; a trial is told what its one policy dominates.

    Both want one number: the share of (0, 0) .. (backbone's error + 5 points, its cost) that error and cost dominate. A
    trial trains up to four epochs, and ASHA keeps the better half after one and two. Every report may enter the front.
    """
    import ray
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    study = arena.study(mode="joint-trials")
    study = study.model_copy(update={"training": _longer(study, ASHA_EPOCHS)})
    path = arena.run("ray-asha", study)
    found, samples = list[Found](), [0]

    class Listener(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            watch.forgive(result["forgiven"])
            samples[0] += result["samples"]
            cal, test = (np.array([result[split]]) for split in ("cal", "test"))
            found.append(Found(watch.seconds, samples[0], cal, test))

    class Over(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return watch.seconds > arena.clock and bool(found)

    here = str(Path(__file__).parent)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    niceness = {"RAY_worker_niceness": "0"}  # its workers would stand back for whoever runs beside them
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", **niceness}
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": environment},
    )
    try:
        space = distributions(Told(prepare(study, open_run(path, study))).parameters)
        search = OptunaSearch(space=space, metric="share", mode="max", sampler=TPESampler(seed=seed))
        tuner = tune.Tuner(
            tune.with_parameters(_ray_trial, fields=study.model_dump(mode="json"), path=str(path)),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=ASHAScheduler(metric="share", mode="max", max_t=ASHA_EPOCHS, reduction_factor=2),
                num_samples=-1,
                time_budget_s=arena.clock + GRACE_S,
                max_concurrent_trials=1,
            ),
            run_config=tune.RunConfig(
                storage_path=str(path.resolve() / "ray"), callbacks=[Listener()], stop=Over(), verbose=0
            ),
        )
        watch = Stopwatch()
        tuner.fit()
    finally:
        ray.shutdown()
    return found


def _longer(study: Study, epochs: int) -> Any:
    joint = study.training.joint.model_copy(update={"epochs": epochs})
    return study.training.model_copy(update={"joint": joint})


def _ray_trial(config: dict[str, Any], fields: dict[str, Any], path: str) -> None:
    """One trial, in a process of Ray's."""
    from ray import tune

    torch.set_num_threads(1)
    start, study = time.monotonic(), Study.model_validate(fields)
    problem = Told(prepare(study, open_run(Path(path), study)))
    problem.report(config, tune.report, time.monotonic() - start)


class Told(JointTrials):
    """Joint trials that tell after every epoch what they are worth."""

    def report(self, params: dict[str, Any], tell: Any, forgiven: float) -> None:
        """Train a proposal; `tell` is called with its figures after every epoch.

        Args:
            params: The proposal.
            tell: Ray's.
            forgiven: Seconds before that are not charged.
        """
        design, profile = self.proposed(params), self.materials.profiles[0]
        if design is None:
            backbone = [self.backbone(profile, split).error for split in ("cal", "test")]
            points = {"cal": [backbone[0], 1.0], "test": [backbone[1], 1.0]}
            tell({"share": 0.0, **points, "samples": 0, "forgiven": forgiven})
            return
        samples = len(self.materials.dataset.train)

        def after_epoch(net: ExitNet, done: int) -> None:
            cal = self._figures(net, params, "cal")
            start = time.monotonic()
            test = self._figures(net, params, "test")
            looking = time.monotonic() - start + (forgiven if done == 1 else 0.0)
            share = hypervolume(np.array([cal]), self.backbone(profile, "cal").error + MAX_DROP)
            tell({"share": share, "cal": cal, "test": test, "samples": samples, "forgiven": looking})

        self.workshop.network(design, after_epoch)

    def _figures(self, net: ExitNet, params: dict[str, Any], split: Literal["cal", "test"]) -> list[float]:
        profile, criterion = self.materials.profiles[0], str(params["criterion"])
        table = collect(net, getattr(self.materials.dataset, split))
        *early, output = table.exits
        slot = self.slots_of(params)
        stops = [Stop(exit=e, threshold=float(params[f"threshold:{slot[e.cut]}"])) for e in early]
        policy = Policy(stops=(*stops, Stop(exit=output, threshold=-inf)), criterion=criterion, fits=())
        _, costs = self.priced(table, profile, criterion)
        told = evaluate(policy, table, costs, ())
        unit = self.backbone(profile, split).costs[profile.axis].mean
        return [told.error, told.costs[profile.axis].mean / unit]


def earlyon(arena: Arena, seed: int) -> list[Found]:
    """The package earlyon, 0.3.0: exits behind named layers, heads trained on the frozen network, greedy thresholds.

    As in most of its own ready-made networks there are two exits, here behind a third and two thirds of the
    multiply-adds; their heads train as many epochs as those of our bank. It counts costs without heads; here those that
    a sample passes are charged.

    Raises:
        MissingRivalError: it is not installed.
    """
    if find_spec("earlyon") is None:
        raise MissingRivalError("earlyon is not installed: pip install --no-deps earlyon==0.3.0")
    torchvision()  # which earlyon imports
    from earlyon.core.thresholds import calibrate_thresholds, collect_head_logits, simulate_policy
    from earlyon.models import custom_ee
    from earlyon.training import stage2_train_exits

    problem = arena.problem("earlyon")
    watch, data = Stopwatch(), problem.materials.dataset
    torch.manual_seed(seed)
    epochs = problem.study.training.heads.epochs
    cuts = near(problem, EARLYON_SHARES)
    loaders = {split.name: _loader(split) for split in (data.train, data.cal, data.test)}
    shape, layers = (1, *data.train.x.shape[1:]), [f"model.{cut}" for cut in cuts]
    model = custom_ee(_users(problem), layers, problem.materials.backbone.classes, input_shape=shape)
    stage2_train_exits(model, loaders["train"], epochs=epochs, on_epoch_end=lambda log: None)
    samples, found, looking = epochs * len(data.train), list[Found](), Stopwatch()
    cache = {split: collect_head_logits(model, loaders[split], "cpu") for split in ("cal", "test")}
    watch.forgive(looking.seconds)  # its own calibration collects them for itself, each time
    for drop in DROPS:
        calibrate_thresholds(model, loaders["cal"], target_accuracy_drop=drop)
        paid = _paid(problem, cuts, model)
        told = [simulate_policy(cache[split], model) for split in ("cal", "test")]
        points = [np.array([(1.0 - t.accuracy, _mean(t.exit_distribution, paid))]) for t in told]
        found.append(Found(watch.seconds, samples, *points))
    return found


def _users(problem: Problem) -> nn.Module:
    """The trained network as its user has it, its layers under their own names; from raw samples to logits."""
    model = study_model(problem.study)
    model.load_state_dict(problem.materials.backbone.original_state())
    return Preprocessed(first_module(problem.study.input, model), model)


def _loader(split: Split) -> DataLoader[Any]:
    data, learns = TensorDataset(torch.from_numpy(split.x), torch.from_numpy(split.y).long()), split.name == "train"
    return DataLoader(data, batch_size=128 if learns else 500, shuffle=learns)


def _paid(problem: Problem, cuts: Sequence[str], model: Any) -> dict[str, float]:
    """Multiply-adds of leaving at each of its exits, and at the end, over the network's: heads on the way included."""
    from earlyon.core.types import exit_label

    profile, heads, paid = problem.materials.profiles[0], 0.0, {}
    whole = profile.macs_prefix[-1]
    for i, (cut, head) in enumerate(zip(cuts, model.exit_heads.values(), strict=True)):
        if model.config.enabled_exits[i]:
            heads += sum(m.in_features * m.out_features for m in head.modules() if isinstance(m, nn.Linear))
        paid[exit_label(i)] = (profile.macs_prefix[profile.cuts.index(cut)] + heads) / whole
    return paid | {exit_label(-1): (whole + heads) / whole}


def _mean(shares: dict[str, float], paid: dict[str, float]) -> float:
    return sum(share * paid[exit] for exit, share in shares.items())
