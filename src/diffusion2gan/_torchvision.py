"""Imported with the package: makes `import torchvision` work beside a CPU build of torch.

torchvision registers fake kernels for its compiled operators as it is imported. The operators are missing if its
binary, which may need CUDA's libraries, did not load; the import then fails with "operator torchvision::nms does
not exist", although nothing here ever calls it. Declaring two operators is enough. Where they exist, and where
torchvision is never imported, this does nothing.
"""

import sys
from importlib.abc import MetaPathFinder

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []  # a torch.library.Library withdraws its operators when it is collected


class _Repair(MetaPathFinder):
    """Finds no module; declares missing operators when torchvision is about to register kernels for them."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision._meta_registrations":  # torchvision has tried to load its binary just before
            import torch

            if not hasattr(torch.ops.torchvision, "nms"):
                library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in _OPERATORS:
                    library.define(operator)
                _libraries.append(library)
        return None


sys.meta_path.insert(0, _Repair())
