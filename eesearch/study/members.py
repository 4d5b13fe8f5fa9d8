"""Everything that a study of several networks needs before its first trial: each network's own, and what joins them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eesearch.core.cascades import CascadeProfile, joined_content
from eesearch.core.costs import DeviceProfile
from eesearch.core.design import Cascade, HeadSpec, content_key
from eesearch.core.errors import ModelError, SplitError
from eesearch.core.progress import Progress, silent
from eesearch.core.store import Store
from eesearch.core.systems import SystemProfile
from eesearch.costs.devices import parse_device
from eesearch.nets.backbone import Backbone
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.study.heads import fitting_heads
from eesearch.study.materials import (
    Materials,
    Stopwatch,
    backbone_key,
    check_classes,
    check_inputs,
    load_backbone,
    load_study_data,
    reusing,
    thinned,
    trained_backbone,
)
from eesearch.study.named import remember
from eesearch.study.networks import BackboneSpec
from eesearch.study.profiling import Network, any_profile
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.training.collect import collect
from eesearch.training.data import Dataset

log = logging.getLogger(__name__)

GUESSING = 1.5
"""Times as often right as by guessing: who is not even that has not learnt these classes."""


def whole_key(network: str) -> str:
    """Under which the store keeps the weights of a network without exits."""
    return content_key("whole", network)


def load_member(study: Study, spec: BackboneSpec, example: NDArray[np.generic]) -> Backbone:
    """One of several networks, with its weights if it names any, its name before those of its cuts.

    Args:
        study: Of all networks.
        spec: The network.
        example: Raw samples. [N, ...]

    Raises:
        ModelError: it cannot be imported, built, loaded, or fed with the samples.
        SplitError: it cannot be cut.
    """
    try:
        return load_backbone(study.of(spec), example).named(spec.name)
    except (ModelError, SplitError) as error:
        raise ModelError(f"network {spec.name}: {error}") from error


def load_members(study: Study, dataset: Dataset) -> dict[str, Backbone]:
    """All of several networks, by their names.

    Raises:
        ModelError: as `load_member`; or one does not fit the data, or two are the same.
        SplitError: one cannot be cut.
    """
    loaded = {spec.name: load_member(study, spec, dataset.train.x[:2]) for spec in study.networks}
    for backbone in loaded.values():
        check_classes(backbone, dataset)
    _require_distinct(loaded)
    return loaded


def cut_member(study: Study, spec: BackboneSpec, backbone: Backbone) -> Network:
    """A network with the cuts at which it may have exits, and the heads that fit there."""
    own = study.of(spec)
    kept = thinned(backbone, own.space.cuts.max_cuts) if spec.exits else backbone.keep([])
    return kept, fitting_heads(own.space, kept) if spec.exits else {}


def profiled_member(study: Study, spec: BackboneSpec, backbone: Backbone) -> Network:
    """What is measured of a network: of one without exits, too, what deciding and going on takes, at one cut."""
    if spec.exits:
        return cut_member(study, spec, backbone)
    kept = thinned(backbone, 1)
    return kept, {cut.name: (HeadSpec(),) for cut in kept.cuts}


def prepare_members(study: Study, run: RunDir, *, progress: Progress = silent) -> Materials:
    """Load or train, split, and measure whatever is not in the run directory yet; the reference stands for all.

    Raises:
        InputError: of the part that cannot be used.
    """
    for device in study.measured:
        parse_device(device)  # refused before anything else is done
    watch = Stopwatch()
    with watch.phase("load"):
        dataset = load_study_data(study)
        loaded = load_members(study, dataset)
    remember(study)
    check_inputs(study, run, dataset, {f"network {name}": backbone.key for name, backbone in loaded.items()})
    networks = {spec.name: cut_member(study, spec, loaded[spec.name]) for spec in study.networks}
    with watch.phase("profile"):
        measured = {spec.name: profiled_member(study, spec, loaded[spec.name]) for spec in study.networks}
        profiles = {device: member_profiles(study, run, device, measured, progress) for device in study.devices}
    fixed = [spec for spec in study.backbones if not spec.vary]
    makers = {
        s.name: partial(
            _trained,
            partial(trained_backbone, study.of(s), dataset, loaded[s.name], run, progress),
            networks[s.name][0],
        )
        for s in study.networks
    }
    with watch.phase("train backbone"):
        for spec in fixed:
            if not spec.is_trained:
                networks[spec.name] = makers[spec.name](), networks[spec.name][1]
    with watch.phase("compare networks"):
        right = {spec.name: _accuracy(networks[spec.name][0], dataset, progress) for spec in fixed}
    reference = study.reference or max(right, key=lambda name: right[name])
    tell_doubtful(right, dataset.classes)
    tell_dominated(right, {name: profiles[study.devices[0]][name].macs_prefix[-1] for name in right})
    store, members = reusing(study, run), {}
    for spec in study.networks:
        own, (backbone, heads) = study.of(spec), networks[spec.name]
        found = Materials(
            own, dataset, backbone, heads, tuple(each[spec.name] for each in profiles.values()), store, watch
        )
        if spec.name not in right:
            key = backbone_key(own, loaded[spec.name], dataset.train.key)
            found = replace(found, train=makers[spec.name], untrained=key)
        members[spec.name] = found
    return Materials(
        study=study,
        dataset=dataset,
        backbone=networks[reference][0],
        heads=joined_heads(networks),
        profiles=tuple(join_profiles(device, each, reference) for device, each in profiles.items()),
        store=store,
        watch=watch,
        members=members,
    )


def _trained(make: Callable[[], Backbone], cut: Backbone) -> Backbone:
    """A network that the study trains, with the cuts of another of the same kind."""
    return make().keep([each.name for each in cut.cuts])


def stored_cascade(store: Store, study: Study, cascade: Cascade, example: NDArray[np.generic]) -> CascadeNet | None:
    """The trained networks of a cascade; None if the store lacks one.

    Args:
        store: Of the run.
        study: Names the networks; its files of weights need not be there any more.
        cascade: What was trained.
        example: At least one raw sample, by which the networks are split again. [N, ...]

    Raises:
        ModelError: a network cannot be built any more, or is of other code.
    """
    nets = {}
    for spec in (each for each in study.networks if each.name in cascade.networks):
        trained = cascade.members.get(spec.name)
        kept = store.get("weights", trained.key if trained else whole_key(cascade.whole[spec.name]))
        if kept is None:
            return None
        plain = spec.bare
        backbone, _ = cut_member(study, plain, load_member(study, plain, example))
        nets[spec.name] = ExitNet.from_arrays(backbone, *kept)
    return CascadeNet(nets, cascade.reference)


def cascade_profile(
    study: Study, run: RunDir, device: str, reference: str, example: NDArray[np.generic], *, progress: Progress = silent
) -> CascadeProfile:
    """What the networks of a finished study cost on a device: as it was measured, or measured now.

    Args:
        study: Names the networks.
        run: Keeps what is measured.
        device: Of this machine.
        reference: Name of the network that all is compared with.
        example: Raw samples. [N, ...]
        progress: Told what is measured.

    Raises:
        CostError: the device cannot be measured here.
    """
    plain = [spec.bare for spec in study.networks]
    networks = {spec.name: profiled_member(study, spec, load_member(study, spec, example)) for spec in plain}
    return join_profiles(device, member_profiles(study, run, device, networks, progress), reference)


def member_profiles(
    study: Study, run: RunDir, device: str, networks: Mapping[str, Network], progress: Progress
) -> dict[str, DeviceProfile | SystemProfile]:
    """What each network costs on a device or a system, each kept under a name of its own.

    Raises:
        CostError: the device cannot be measured here.
        StudyError: a system does not suit a network.
    """
    alone = {spec.name: study.of(spec) for spec in study.networks}
    return {
        name: any_profile(alone[name], run, device, network, progress, member=name)
        for name, network in networks.items()
    }


def join_profiles(device: str, members: Mapping[str, DeviceProfile | SystemProfile], reference: str) -> CascadeProfile:
    """The profile of all networks on a device or a system."""
    return CascadeProfile(
        device=device,
        fingerprint=members[reference].fingerprint,
        content=joined_content({name: each.content for name, each in members.items()}),
        members=dict(members),
        reference=reference,
    )


def joined_heads(networks: Mapping[str, Network]) -> dict[str, tuple[HeadSpec, ...]]:
    """The heads that fit each cut, of all networks."""
    return {cut: tuple(specs) for _, heads in networks.values() for cut, specs in heads.items()}


def _accuracy(backbone: Backbone, dataset: Dataset, progress: Progress) -> float:
    return float(collect(ExitNet(backbone, {}), dataset.cal, progress=progress).accuracy[-1])


def _require_distinct(networks: Mapping[str, Backbone]) -> None:
    names: dict[str, str] = {}
    for name, backbone in networks.items():
        twin = names.setdefault(backbone.key, name)
        if twin != name:
            raise ModelError(
                f"backbones: '{twin}' and '{name}' are the same network",
                expected="networks that differ in code or weights",
                do="Leave one of them out.",
            )


def tell_doubtful(right: Mapping[str, float], classes: int) -> None:
    """Warn of networks that are right no more often than by guessing: maybe they mean other classes."""
    for name, accuracy in right.items():
        if accuracy < GUESSING / classes:
            log.warning(
                "network %s is right about %.1f %% of calibration, as if it guessed: if its classes come in another "
                "order than those of the data, say so in its `classes`; and look at its `input`",
                name, 100.0 * accuracy,
            )  # fmt: skip


def tell_dominated(right: Mapping[str, float], macs: Mapping[str, float]) -> None:
    """Warn of networks that cost more than another and are right less often: they stay, as a cascade may use them."""
    for name in right:
        better = [o for o in right if macs[o] < macs[name] and right[o] > right[name]]
        if better:
            log.warning(
                "network %s costs more than %s and is right less often (%.2f %% and %.2f %% on calibration)",
                name, better[0], 100.0 * right[name], 100.0 * right[better[0]],
            )  # fmt: skip
