"""What the hidden layers of a network return for some images.

A pass is watched at the level of torch's own operators, so it makes no difference whether a layer
is a module, a function or a method.
"""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from blindspots.errors import UserError
from blindspots.models.admission import admit
from blindspots.models.operators import operator_name
from blindspots.models.state import frozen

# Operators of linear layers, and the axis that holds the units of what they return.
LINEAR = {"convolution": 1, "linear": -1, "addmm": -1, "mm": -1}
ACTIVATIONS = {
    *("relu", "leaky_relu", "elu", "celu", "gelu", "silu", "mish", "softplus", "_prelu_kernel"),
    *("sigmoid", "hardsigmoid", "tanh", "hardtanh", "hardswish"),
}
LOGITS = "logits"


def hidden_features(network, images, chunk, name="the network"):
    """Return the features of all images in every hidden layer, and their logits.

    A hidden layer is what an activation returns that a linear layer follows; those whose channels
    are put side by side are one layer. Its units are the outputs of a dense layer or the channels
    of a convolution, the mean over the map of each: a rotation of channels is the same at every
    position, so it commutes with that mean.

    Parameters
    ----------
    network : torch.nn.Module
    images : torch.Tensor of float32, shape (N, C, H, W)
        In [0, 1].
    chunk : int
        Images per forward pass.
    name : str
        What sentences call the network.

    Returns
    -------
    dict of str to torch.Tensor of float32, shape (N, D)
        By the name of the activation and its number, ``relu 1``, or ``concatenation 1``, in
        the order of the pass; the last one is ``logits``.

    Raises
    ------
    UserError
        If there is no hidden layer.
    blindspots.models.admission.ModelError
        If the network is refused (`blindspots.models.admission.admit`).
    """
    parts = []
    with frozen(network):
        model = admit(network, images, name=name)
        for part in images.split(chunk):
            with _Watch(len(part)) as watch:
                logits = model(part.clone())
            parts.append(watch.hidden() | {LOGITS: logits.float()})
    if len(parts[0]) == 1:
        raise UserError(
            f"{name} has no activation between two linear layers, so it has no hidden units; leave "
            "it out of this experiment"
        )
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


class _Watch(TorchDispatchMode):
    """Keeps the mean over its map of each unit of what activations return."""

    def __init__(self, count):
        super().__init__()
        self.count = count  # images of the pass: what has fewer rows is a computation on weights
        self.found, self.numbers = {}, Counter()  # by name: when, and the features
        self.names = WeakIdKeyDictionary()  # of the layers that tensors hold
        self.axis, self.time, self.linear = 1, 0, 0  # of units; of now and the last linear layer

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = operator_name(function)
        self.time += 1
        if name in LINEAR:
            self.axis, self.linear = LINEAR[name], self.time
        elif name in ACTIVATIONS and result.dim() > 1 and len(result) == self.count:
            # Now: what follows may write into the same memory.
            units = result.unsqueeze(-1) if result.dim() == 2 else result.movedim(self.axis, 1)
            kind = name.strip("_").removesuffix("_kernel").replace("_", " ")
            self._keep(kind, result, units.flatten(2).float().mean(2))
        elif name == "cat":
            parts = [self.names.get(part) for part in args[0]]
            axis = args[1] if len(args) > 1 else 0
            if None not in parts and axis % result.dim() == self.axis % result.dim():
                self._keep(
                    "concatenation", result, torch.cat([self.found.pop(n)[1] for n in parts], 1)
                )
        return result

    def hidden(self):
        """Return what lies before the last linear layer, by name."""
        return {name: units for name, (time, units) in self.found.items() if time < self.linear}

    def _keep(self, kind, result, units):
        self.numbers[kind] += 1
        name = f"{kind} {self.numbers[kind]}"
        self.found[name] = self.time, units
        self.names[result] = name
