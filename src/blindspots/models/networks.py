"""Network architectures: the registry, and the construction of a network from its description."""

import copy

import torch
from torch import nn

from blindspots.models.admission import admit
from blindspots.models.imagenet import tiny_darknet
from blindspots.models.normalized import Normalized
from blindspots.models.state import frozen, restored
from blindspots.seeding import seeded
from blindspots.torchvision_import import import_with_torchvision

TORCHVISION = "torchvision:"
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def build_network(architecture, shape, classes, seed):
    """Build a network with freshly drawn weights.

    Parameters
    ----------
    architecture : dict
        ``kind``: ``softmax``, ``mlp`` (with ``widths``, ``activation``), ``autoencoder`` (with
        ``units``), ``conv`` (with ``channels``, ``units``), ``tiny_darknet``, ``torchvision:NAME``,
        or a user's ``module:factory``, called as ``factory(shape, classes, **options)``. With
        ``normalize``, mapping ``mean`` and ``std`` to numbers for each channel, images are
        normalised before.
    shape : tuple of int
        Shape of one image, (channels, height, width).
    classes : int
    seed : int
        Seed of the weights, whether torch, numpy or Python draws them; the global random states
        are left alone.

    Returns
    -------
    torch.nn.Module
        Maps images (B, *shape) in [0, 1] to logits (B, classes).

    Raises
    ------
    ValueError
        If a user's factory returns something else, or a network that is refused
        (`blindspots.models.admission.admit`).
    """
    kind = architecture["kind"]
    users = ":" in kind and not kind.startswith(TORCHVISION)
    build = _user_network if users else BUILDERS[kind.partition(":")[0]]
    if users:
        with seeded(0):  # what the module draws belongs to no network
            import_with_torchvision(kind.partition(":")[0])
    with seeded(seed):
        network = build(architecture, shape, classes)
    if "normalize" in architecture:
        network = Normalized(network, **architecture["normalize"])
    return network


def linear_layers(network):
    """Return the layers whose connection weights may decay, from input to output."""
    return [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


class SigmoidCode(nn.Module):
    """The code of a one-layer sigmoid auto-encoder; frozen once trained.

    Parameters
    ----------
    inputs, units : int
    """

    def __init__(self, inputs, units):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, inputs))
        self.bias = nn.Parameter(torch.zeros(units))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, images):
        return torch.sigmoid(nn.functional.linear(images, self.weight, self.bias))


def placed(network, kind, device):
    """Return a network on a device, in the layout that is fastest there.

    Parameters
    ----------
    network : torch.nn.Module
        As `build_network` returns it.
    kind : str
        Of its architecture.
    device : torch.device
    """
    network = network.to(device)
    if kind == "conv" and device.type != "cpu":
        network = network.to(memory_format=torch.contiguous_format)
    return network


def _softmax(architecture, shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), classes))


def _mlp(architecture, shape, classes):
    layers, width = [nn.Flatten()], _size(shape)
    for units in architecture["widths"]:
        layers += [nn.Linear(width, units), ACTIVATIONS[architecture["activation"]]()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _autoencoder(architecture, shape, classes):
    units = architecture["units"]
    return nn.Sequential(nn.Flatten(), SigmoidCode(_size(shape), units), nn.Linear(units, classes))


def _conv(architecture, shape, classes):
    channels, height, width = shape
    layers = []
    for filters in architecture["channels"]:
        layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, height, width = filters, height // 2, width // 2
    units = architecture["units"]
    layers += [nn.Flatten(), nn.Linear(channels * height * width, units), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(units, classes))
    # A quarter less time on a CPU, above all in the pooling (on a GPU thrice as much: `placed`).
    return network.to(memory_format=torch.channels_last)


def _user_network(architecture, shape, classes):
    reference = architecture["kind"]
    module, _, name = reference.partition(":")
    factory = getattr(import_with_torchvision(module), name, None)
    if factory is None:
        raise ValueError(f"{reference}: the module has no {name}")
    with restored():
        network = factory(shape, classes, **copy.deepcopy(architecture.get("options", {})))
    if not isinstance(network, nn.Module):
        raise ValueError(f"{reference} returned {type(network).__name__}, not a torch.nn.Module")
    images = torch.linspace(0, 1, 2 * _size(shape)).view(2, *shape)
    with frozen(network):
        model = admit(network, images, name=reference)
        if model.dtype != images.dtype:
            raise ValueError(f"{reference} has weights of {model.dtype}; the images are float32")
        logits = model(images)
        network(handed := images.clone())
    if not torch.equal(handed, images):
        raise ValueError(f"{reference} changes the images that it is given")
    if model.classes != classes:
        raise ValueError(
            f"{reference} maps 2 images to {(2, model.classes)}, not to logits (2, {classes})"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError(f"{reference} maps images to logits that are not finite numbers")
    return network.train()


def _size(shape):
    return shape[0] * shape[1] * shape[2]


def _tiny_darknet(architecture, shape, classes):
    return tiny_darknet(classes)


def _torchvision(architecture, shape, classes):
    from blindspots.models.torchvision_models import torchvision_network  # slow to import

    return torchvision_network(architecture["kind"].removeprefix(TORCHVISION), classes)


BUILDERS = {
    "softmax": _softmax,
    "mlp": _mlp,
    "autoencoder": _autoencoder,
    "conv": _conv,
    "tiny_darknet": _tiny_darknet,
    "torchvision": _torchvision,
}
