"""Networks by name: of timm, torchvision and transformers, or what a function of the user's makes; their weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import isclose
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from eesearch.core.errors import ModelError
from eesearch.core.hub import ALLOW, hub_as_allowed, may_download
from eesearch.core.imports import import_object
from eesearch.nets.vision import need_vision

FORMAT = "timm:NAME, torchvision:NAME, hf:FOLDER-or-NAME or package.module:function"


def build_model(source: str, args: Mapping[str, Any], seed: int) -> nn.Module:
    """Make the network that a source names, in single precision; random weights come from the seed.

    Args:
        source: As `FORMAT`.
        args: Of the function that makes it.
        seed: Of torch's global generator meanwhile.

    Raises:
        ModelError: it cannot be imported, fails, or returns no module.
    """
    kind, mark, name = source.partition(":")
    if not mark or not name:
        raise ModelError(f"'{source}' names no model", expected=FORMAT)
    if kind == "given":
        raise ModelError(f"the model {source} was given as an object", do="Go on from where it is: eesearch.search.")
    build: Any = SOURCES[kind](name) if kind in SOURCES else import_object(source, ModelError)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = build(**args)
        except ModelError:
            raise
        except Exception as error:  # the library's or the user's code may fail in any way: say where, keep the cause
            raise ModelError(
                f"{source} failed", got=f"{type(error).__name__}: {error}", do="Check its args, and vary."
            ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{source} returned no model", got=type(model).__name__, expected="a torch.nn.Module")
    if any(weight.dtype != torch.float32 for weight in model.parameters() if weight.is_floating_point()):
        model.float()  # checkpoints of transformers come in the precision in which they were saved
    return model


def _close(name: str, known: Sequence[str]) -> str:
    return f"one of its {len(known)}, such as {', '.join(get_close_matches(name, known, n=5) or known[:5])}"


def _of_timm(name: str) -> Callable[..., nn.Module]:
    timm = need_vision("timm", "vision", ModelError)
    if not timm.is_model(name.partition(".")[0]):
        raise ModelError(f"timm has no model '{name}'", expected=_close(name, timm.list_models()))

    def build(**args: Any) -> nn.Module:
        with hub_as_allowed():
            model: nn.Module = timm.create_model(name, **args)
        return model

    return build


def _of_torchvision(name: str) -> Callable[..., nn.Module]:
    models = need_vision("torchvision.models", "vision", ModelError)
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no model '{name}'", expected=_close(name, known))
    built: Callable[..., nn.Module] = models.get_model_builder(name)
    return built


def _of_transformers(name: str) -> Callable[..., nn.Module]:
    transformers = need_vision("transformers", "hf", ModelError)
    transformers.utils.logging.disable_progress_bar()
    here = Path(name).expanduser()
    place = str(here) if here.exists() else name
    try:
        with hub_as_allowed():
            config = transformers.AutoConfig.from_pretrained(place, local_files_only=not may_download())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"there is no network '{name}' here",
            got=str(error).splitlines()[0],
            expected="a folder with config.json, or a name in the cache of Hugging Face",
            do=f"Save it with `save_pretrained(FOLDER)`, and write `hf:FOLDER`. {ALLOW}",
        ) from error
    known = [each for each in config.architectures or [] if each.endswith("Classification")]
    if not known:
        raise ModelError(
            f"'{name}' is no classifier",
            got=f"architectures {config.architectures}",
            expected="one that ends with ForSequenceClassification or ForImageClassification",
            do="Fine-tune it with such a class of transformers, and save it.",
        )
    if config.problem_type in ("regression", "multi_label_classification"):
        expected = "one class per sample: problem_type single_label_classification"
        raise ModelError(
            f"'{name}' answers another question", got=f"problem_type {config.problem_type}", expected=expected
        )
    of_class = getattr(transformers, known[0], None)
    if of_class is None:
        raise ModelError(
            f"'{name}' is of a class that transformers {transformers.__version__} does not have",
            got=known[0],
            expected="a class of transformers",
            do="Install a release that has it, or make the network by a function of yours: package.module:function.",
        )

    def build(*, pretrained: bool = True, **args: Any) -> nn.Module:
        made: nn.Module
        if pretrained:
            made = of_class.from_pretrained(place, local_files_only=not may_download(), **args)
        else:
            made = of_class(config, **args)
        return made

    return build


SOURCES: dict[str, Callable[[str], Callable[..., nn.Module]]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
    "hf": _of_transformers,
}
"""What stands before the colon -> what makes a network of the rest."""


Normalization = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation per channel, of the images in [0, 1] that most networks of photographs were trained on."""


def normalization_of(model: nn.Module) -> Normalization:
    """Mean and standard deviation per channel, of images in [0, 1], with which a network was trained.

    timm's are in its configuration, those of transformers in `preprocessor_config.json` beside the weights;
    torchvision's are those of ImageNet.

    Raises:
        ModelError: it comes from none of these, or does not say.
    """
    config: Any = getattr(model, "pretrained_cfg", None)
    names = ("mean", "std")
    file = _preprocessor_file(str(getattr(model, "name_or_path", "")))
    if config is None and file is not None:
        config, names = json.loads(file.read_text(encoding="utf-8")), ("image_mean", "image_std")
        usual = isclose(config.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3) and config.get("do_rescale", True)
        config = config if usual and config.get("do_normalize", True) else None
    if type(model).__module__.startswith("torchvision."):
        return IMAGENET
    if not isinstance(config, Mapping) or not all(config.get(name) for name in names):
        raise ModelError(
            f"{type(model).__name__} does not say how its images are normalised",
            expected="a network of timm, torchvision or transformers",
            do="Write scale, mean and std under `input`.",
        )
    mean, std = (tuple(map(float, config[name])) for name in names)
    return mean, std


def _preprocessor_file(place: str) -> Path | None:
    """What lies beside the weights of a network of transformers, in a folder or the cache of Hugging Face, if it does.

    Args:
        place: Folder or name; "" if the network does not say where it comes from.
    """
    if not place:
        return None
    hub = need_vision("transformers.utils", "hf", ModelError)
    try:
        with hub_as_allowed():
            return Path(hub.cached_file(place, "preprocessor_config.json", local_files_only=not may_download()))
    except (OSError, ValueError):  # it is not there, or that is no place
        return None


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors, or a state dict read with `weights_only`; never unpickles code.

    Raises:
        ModelError: unreadable, or of another architecture.
    """
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise ModelError(f"there is no weights file {path}", do="Check backbone.weights.") from None
    except Exception as error:  # torch.load raises a dozen kinds on a file that is not its own
        kinds = (SafetensorError, OSError, ValueError, RuntimeError, EOFError)
        got = error if isinstance(error, kinds) else type(error).__name__
        raise ModelError(
            f"cannot read {path}", got=got, expected="safetensors, or a state dict of tensors only"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise ModelError(f"{path} holds no state dict", got=type(state).__name__, expected="names to tensors")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path} holds weights of another architecture",
            got=_differences(state, model.state_dict()) or error,
            expected=f"the tensors of {type(model).__name__}",
            do="Check backbone.model and its args, or name the file that was saved from this model.",
        ) from None


def _differences(given: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """What a state dict lacks, has beside, or has in other shapes, with the first few names; "": nothing."""
    here = {name: list(getattr(tensor, "shape", ())) for name, tensor in own.items()}
    there = {name: list(getattr(tensor, "shape", ())) for name, tensor in given.items()}
    both = [name for name in here if name in there and here[name] != there[name]]
    differing = {
        "missing": [name for name in here if name not in there and not name.endswith("num_batches_tracked")],
        "unknown": [name for name in there if name not in here],
        "of another shape": [f"{name} {there[name]} for {here[name]}" for name in both],
    }
    listed = {what: ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])]) for what, names in differing.items()}
    return "; ".join(f"{len(differing[what])} {what}: {names}" for what, names in listed.items() if names)
