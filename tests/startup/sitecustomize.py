"""Imported by every Python that tests start: torchvision can be imported beside a torch without CUDA.

Its build for CUDA, which is what an index without CPU builds gives, refers to operators that it cannot load there.
"""

import sys
from importlib.metadata import version


class DeclaringOperators:
    """Declares them before torchvision is imported; finds nothing itself."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and self.library is None and "+cpu" not in version("torchvision"):
            import torch

            if torch.version.cuda is None:
                self.library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


if not any(type(finder).__name__ == "DeclaringOperators" for finder in sys.meta_path):
    sys.meta_path.insert(0, DeclaringOperators())
