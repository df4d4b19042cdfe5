"""Import torchvision beside any build of torch.

A CPU-only build of torch may meet a torchvision whose compiled extension cannot load; importing
torchvision then fails because two operators that it describes are not declared. Declaring them
first is enough for data sets, models and transforms.
"""

import importlib

import torch

_DECLARATIONS = []  # last as long as the library objects in it live


def import_with_torchvision(name):
    """Import a module that needs torchvision, and return it.

    Parameters
    ----------
    name : str

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARATIONS.append(library)
    return importlib.import_module(name)
