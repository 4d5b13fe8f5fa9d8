"""The formats that come with eesearch: importing this module registers them."""

from eesearch.exporters import (
    config_file,
    executorch_stages,
    hf_folder,
    hydra_groups,
    lightning_module,
    onnx_stages,
    openvino_stages,
    torch_folder,
)

__all__ = [
    "config_file",
    "executorch_stages",
    "hf_folder",
    "hydra_groups",
    "lightning_module",
    "onnx_stages",
    "openvino_stages",
    "torch_folder",
]
