"""Torchvision's architectures for classification, and the weights that it publishes for them."""

import difflib
from dataclasses import dataclass

from blindspots.errors import UserError
from blindspots.torchvision_import import import_with_torchvision

HALVES = ("googlenet", "inception_v3")  # whose weights are for mean and std 0.5


def torchvision_network(name, classes):
    """Build one of torchvision's networks for classification, with freshly drawn weights.

    Nothing is downloaded. The networks expect the images on which their weights were trained: most
    of torchvision's own are for RGB images normalised by mean 0.485, 0.456, 0.406 and std 0.229,
    0.224, 0.225 (`blindspots.models.normalized.Normalized`), ``googlenet`` and ``inception_v3`` for
    mean and std 0.5. These two return more than logits while they are trained.

    Parameters
    ----------
    name : str
        As in ``torchvision.models``, such as ``squeezenet1_0``.
    classes : int

    Returns
    -------
    torch.nn.Module
        Maps images (B, 3, H, W) to logits (B, classes) in evaluation mode.

    Raises
    ------
    UserError
        If torchvision has no such network.
    """
    models = import_with_torchvision("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known) or known[:3]
        raise UserError(
            f"torchvision has no network {name!r} for classification; write one of its names, such "
            f"as {', '.join(near)}"
        )
    # Else these two warn that another initialisation is to become the default.
    options = {"init_weights": True} if name in HALVES else {}
    return models.get_model(name, weights=None, num_classes=classes, **options)


@dataclass(frozen=True)
class Published:
    """Weights that torchvision publishes.

    Attributes
    ----------
    url : str
        The name of the file ends in the first digits of its SHA-256.
    classes : int
    normalize : dict
        ``mean`` and ``std`` of each channel: what the network expects of images in [0, 1].
    """

    url: str
    classes: int
    normalize: dict


def published_weights(name, weights):
    """Return where weights are that torchvision publishes, and what they expect.

    Parameters
    ----------
    name : str
        A network, as for `torchvision_network`.
    weights : str
        As torchvision names them, such as ``IMAGENET1K_V1`` or ``DEFAULT``.

    Returns
    -------
    Published

    Raises
    ------
    UserError
        If torchvision publishes no such weights of the network.
    """
    models = import_with_torchvision("torchvision.models")
    known = models.get_model_weights(name)
    if weights not in known.__members__:
        raise UserError(
            f"torchvision publishes no weights {weights!r} of {name}; write one of "
            f"{', '.join(known.__members__)}"
        )
    chosen = known[weights]
    preset = chosen.transforms()
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    given = {"mean": list(preset.mean), "std": list(preset.std)}
    return Published(
        chosen.url, len(chosen.meta["categories"]), halves if name in HALVES else given
    )
