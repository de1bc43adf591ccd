"""Make `import torchvision` work beside a CPU build of torch.

PyPI's torchvision registers fake kernels for its compiled operators as it is imported. Its binary
needs CUDA libraries, so beside a CPU torch the operators are missing and the import fails with
"operator torchvision::nms does not exist", although nothing here ever calls them. Declaring the two
operators is enough. On a healthy install this does nothing; where torchvision is never imported,
neither is torch.
"""

import sys
from importlib.abc import MetaPathFinder

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []  # a torch.library.Library withdraws its operators when it is collected


class _Repair(MetaPathFinder):
    """Finds nothing: it declares the operators just before torchvision registers kernels for them."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision._meta_registrations" and not sys.modules["torchvision.extension"]._has_ops():
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in _OPERATORS:
                library.define(schema)
            _libraries.append(library)
        return None


def repair_import() -> None:
    """From now on `import torchvision` declares its compiled operators where its binary does not load."""
    if not any(isinstance(finder, _Repair) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Repair())
