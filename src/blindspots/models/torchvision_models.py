"""Torchvision's architectures for classification."""

import difflib

from blindspots.errors import UserError
from blindspots.torchvision_import import import_with_torchvision


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
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=classes, **options)
