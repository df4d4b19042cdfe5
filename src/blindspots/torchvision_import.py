"""Import torchvision beside any build of torch.

A CPU-only build of torch may meet a torchvision whose compiled extension cannot load; importing
torchvision then fails because two operators that it describes are not declared. Declaring them
first is enough for data sets, models and transforms. Where the extension loads, it declares them
itself, so that is tried before; and whoever does not import torchvision, which is slow, pays
nothing.
"""

import importlib
import sys
from functools import partial
from importlib.machinery import PathFinder

_DECLARATIONS = []  # last as long as the library objects in it live


def import_with_torchvision(name):
    """Import a module that needs torchvision, or may need it, and return it.

    From then on torchvision can be imported, by whomever.

    Parameters
    ----------
    name : str

    Raises
    ------
    ImportError
        If it is not installed.
    """
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    return importlib.import_module(name)


class _Finder:
    """Finds torchvision where everybody does, and has it executed by `_execute`."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_execute, spec.loader.exec_module)
        return spec


def _execute(execute, module):
    """Execute torchvision's own code, a second time after the operators have been declared."""
    try:
        execute(module)
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARATIONS.append(library)
        execute(module)
