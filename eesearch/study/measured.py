"""What is measured of the networks of a study, one or several: where plans, profiles and kits begin."""

from __future__ import annotations

from collections.abc import Mapping

from eesearch.core.progress import Progress
from eesearch.costs.profile import AnyProfile
from eesearch.study.heads import fitting_heads
from eesearch.study.materials import check_classes, load_backbone, load_study_data, thinned
from eesearch.study.members import join_profiles, load_members, member_profiles, profiled_member
from eesearch.study.profiling import Network, any_profile
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.training.data import Dataset


def measured_networks(study: Study) -> tuple[Dataset, dict[str, Network]]:
    """The data of a study, and its networks by their names, with the cuts and heads that are measured.

    Raises:
        InputError: of the part that cannot be used.
    """
    dataset = load_study_data(study)
    if len(study.backbones) > 1:
        loaded = load_members(study, dataset)
        return dataset, {spec.name: profiled_member(study, spec, loaded[spec.name]) for spec in study.networks}
    backbone = thinned(load_backbone(study, dataset.train.x[:2]), study.space.cuts.max_cuts)
    check_classes(backbone, dataset)
    return dataset, {study.backbone.name: (backbone, fitting_heads(study.space, backbone))}


def study_profile(
    study: Study, run: RunDir, device: str, networks: Mapping[str, Network], progress: Progress
) -> AnyProfile:
    """What the networks of a study cost on a device, or one alone on a system; what is measured is kept in the run.

    Args:
        study: Names heads and decisions, and how to measure.
        run: Keeps the profiles, of several networks each one's own.
        device: Or system.
        networks: As `measured_networks` gives them.
        progress: Told what is measured.

    Raises:
        CostError: an operation is not counted, or the device cannot be measured here; or its profile is of others.
        StudyError: a system does not suit the network.
    """
    if len(networks) == 1:
        (network,) = networks.values()
        return any_profile(study, run, device, network, progress)
    return join_profiles(device, member_profiles(study, run, device, networks, progress), study.backbone.name)
