"""Make `import torchvision` work beside a CPU build of torch.

PyPI's torchvision registers fake kernels for its compiled operators as it is imported. Its binary
needs CUDA libraries, so beside a CPU torch the operators are missing and the import fails with
"operator torchvision::nms does not exist", although nothing here ever calls them. Declaring the two
operators is enough. On a healthy install this does nothing but import torchvision.
"""

import sys

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []  # a torch.library.Library withdraws its operators when it is collected


def repair_import() -> None:
    """Import torchvision, declaring its compiled operators first where its binary does not load."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _OPERATORS:
            library.define(schema)
        _libraries.append(library)
        import torchvision  # noqa: F401
