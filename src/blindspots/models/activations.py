"""What single layers of a network return: looked at as they pass, or kept with their gradients.

Layers are known by their place among the numbered operators of a pass
(`blindspots.models.operators.is_numbered`), so that it makes no difference whether they are
modules, functions or methods.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from blindspots.models.operators import is_numbered, operator_name
from blindspots.models.state import frozen


def look_at_layers(network, images, numbers, look):
    """Show images to a network, and each layer's output to a function as soon as it is there.

    Nothing is kept, so that memory does not grow with the depth; and what the network overwrites
    later is seen before.

    Parameters
    ----------
    network : torch.nn.Module
    images : torch.Tensor, shape (B, ...)
    numbers : collection of int
        Places of the layers: `blindspots.models.operators.Operation.number`.
    look : callable
        ``look(number, output)``.
    """
    with frozen(network), _Passing(numbers, look):
        network(images.clone())


def differentiable_layers(network, images, numbers):
    """Return the outputs of layers, of which gradients with respect to the images can be taken.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, its weights without gradients: `blindspots.models.state.frozen`.
    images : torch.Tensor, shape (B, ...)
        Requires gradients; it is left as it is.
    numbers : collection of int

    Returns
    -------
    dict of int to torch.Tensor
        Those that torch's functions and methods return. A layer that lies within one of them, or
        within a script, is missing.
    """
    with torch.enable_grad(), _Passing((), None) as passing, _Keeping(numbers, passing) as keeping:
        network(images.clone())
    return keeping.found


class _Passing(TorchDispatchMode):
    """Counts the numbered operators of a pass, and shows the outputs of some of them."""

    def __init__(self, numbers, look):
        super().__init__()
        self.numbers, self.look, self.count = frozenset(numbers), look, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if is_numbered(operator_name(function)):
            number, self.count = self.count, self.count + 1
            if number in self.numbers:
                self.look(number, result[0] if isinstance(result, tuple) else result)
        return result


class _Keeping(TorchFunctionMode):
    """Keeps what torch's functions return, if their last numbered operator is a chosen one.

    Below autograd, where operators are seen, tensors have no gradients; here they do.
    """

    def __init__(self, numbers, passing):
        super().__init__()
        self.numbers, self.passing, self.found = frozenset(numbers), passing, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before = self.passing.count
        result = function(*args, **(kwargs or {}))
        last = self.passing.count - 1
        if before <= last and last in self.numbers and isinstance(result, torch.Tensor):
            self.found[last] = result.clone()  # the network may overwrite it
        return result
