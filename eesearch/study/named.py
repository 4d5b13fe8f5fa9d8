"""Import paths run only if a study file that the user names has named them.

`eesearch search STUDY` is told what to run by the user. What was searched is remembered on this account, as a hash of
path and arguments, so that a run of one's own is used without further ado. A run directory or an exported file that
comes from elsewhere names code too: that is run only if the user says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from eesearch.core.errors import InputError
from eesearch.core.imports import plain_path
from eesearch.study.question import Study
from eesearch.training.sources import Source

log = logging.getLogger(__name__)

OURS = frozenset(
    {
        *(f"eesearch.nets.zoo:{name}" for name in ("residual_cnn", "scalable_cnn", "cifar_resnet", "tiny_resnet")),
        *(f"eesearch.nets.zoo:{name}" for name in ("mlp", "transformer", "views_cnn")),
        *(f"eesearch.nets.classics:{name}" for name in ("lenet", "alexnet")),
        *(f"eesearch.nets.series:{name}" for name in ("audio_cnn", "recurrent", "text_encoder")),
        "eesearch.training.data:digits",
        "eesearch.training.data:digits_views",
    }
)
"""Functions that ship for studies; whatever their arguments, they only make a network or arrays."""

NO_CODE = frozenset({"given", "timm", "torchvision", "hf"})
"""What stands before the colon of a model that is no import path: a live object, or a network of a library."""

Named = tuple[str, str]
"""An import path, and the arguments that it is called with, as JSON."""


def named_paths(study: Study) -> list[Named]:
    """What the study has imported and called: its model, and its data unless they are plain files."""
    data = study.data
    models = [(spec.model, spec.args) for spec in study.networks if spec.model.partition(":")[0] not in NO_CODE]
    runs_code = not data.source.startswith("given:") and Source.of(data.source).runs_code
    calls = [*models, *([(data.source, data.args)] if runs_code else [])]
    return [(plain_path(path), json.dumps(args, sort_keys=True)) for path, args in calls]


def remember(study: Study) -> None:
    """Note that the user has named a study; where that cannot be written, they will be asked again."""
    for named in named_paths(study):
        if named[0] in OURS:
            continue
        try:
            file = _note(named)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except (OSError, RuntimeError) as error:  # a home that is read-only, or none
            log.debug("cannot remember %s: %s", named[0], error)


def check_named(named: Iterable[Named], source: Path | str) -> None:
    """Refuse to import what the user has never named.

    Args:
        named: What would be imported.
        source: The file that names it.

    Raises:
        InputError: so.
    """
    unknown = [path for path, args in named if path not in OURS and not _is_noted((path, args))]
    if unknown:
        raise InputError(
            f"{source} names code that no study of yours has run with these arguments",
            got=", ".join(unknown),
            do="If you trust where it comes from, pass --trust (in Python: trust=True). Otherwise do not use it.",
        )


def _is_noted(named: Named) -> bool:
    try:
        return _note(named).is_file()
    except (OSError, RuntimeError):
        return False


def _note(named: Named) -> Path:
    """The empty file that stands for it.

    Raises:
        RuntimeError: there is no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "eesearch" / "named" / hashlib.sha256("\n".join(named).encode()).hexdigest()
