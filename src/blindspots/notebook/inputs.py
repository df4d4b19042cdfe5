"""What a person has in a notebook, as the engines take it: images, labels, targets, devices."""

from itertools import chain

import numpy as np
import torch
from torch import nn

from blindspots.models.state import parameters_of

SHAPES = "(N, C, H, W) or (N, H, W)"


def device_of(model):
    """Return the device of a model's weights; None of a model without any."""
    buffers = model.buffers() if isinstance(model, nn.Module) else ()
    return next((tensor.device for tensor in chain(parameters_of(model), buffers)), None)


def as_images(images, device=None):
    """Return images as a float32 tensor (N, C, H, W) in [0, 1].

    Parameters
    ----------
    images : array-like, shape (N, C, H, W) or (N, H, W)
        Of a floating-point type with values in [0, 1], or of uint8, which is divided by 255.
    device : torch.device, optional
        Where they are to be; None: where they are.

    Raises
    ------
    ValueError
        If shape, type or values are others.
    """
    images = _tensor("images", images)
    if images.ndim not in (3, 4) or images.numel() == 0:
        raise ValueError(f"images must have shape {SHAPES}, not {tuple(images.shape)}")
    if images.dtype is torch.uint8:
        if int(images.max()) <= 1:
            raise ValueError(
                "images of type uint8 are divided by 255, and these are nowhere above 1; give "
                "them as floating-point numbers if 1 is white"
            )
    elif not images.is_floating_point():
        raise ValueError(
            f"images must be floating-point numbers in [0, 1], or uint8, not {_type(images)}"
        )
    elif not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(f"images must lie in [0, 1], {_remedy(images)}")
    images = images.detach().to(device)
    images = images.float() / 255 if images.dtype is torch.uint8 else images.float()
    return (images[:, None] if images.ndim == 3 else images).contiguous()


def as_labels(name, labels, count, device):
    """Return labels, or targets, as an int64 tensor (N,).

    Parameters
    ----------
    name : str
        What sentences call them.
    labels : array-like of whole numbers, shape (N,)
    count : int
        How many there must be.
    device : torch.device

    Raises
    ------
    ValueError
        If shape or type are others.
    """
    labels = _tensor(name, labels)
    kind = labels.dtype
    if kind.is_floating_point or kind.is_complex or kind is torch.bool:
        raise ValueError(f"{name} must be whole numbers, not {_type(labels)}")
    if labels.shape != (count,):
        raise ValueError(
            f"{name} must have shape ({count},), one for each image, not {tuple(labels.shape)}"
        )
    return labels.detach().long().to(device)


def refuse_other_classes(name, labels, classes):
    """Raise ValueError unless labels are classes that a model has."""
    if bool(((labels < 0) | (labels >= classes)).any()):
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(
            f"{name} must lie in 0 to {classes - 1}, the classes of the model, not in "
            f"{low} to {high}"
        )


def _tensor(name, values):
    if isinstance(values, torch.Tensor):
        return values
    try:
        return torch.from_numpy(np.array(values))  # a copy: of what may be read-only, or reversed
    except (TypeError, ValueError) as error:  # objects, texts, rows of several lengths
        raise ValueError(
            f"{name} must be an array or a tensor of numbers, not {type(values).__name__}"
        ) from error


def _remedy(images):
    if bool(images.isnan().any()):
        return "without NaN"
    low, high = images.min().item(), images.max().item()
    remedy = "; divide them by 255" if low >= 0 and high > 2 else ""
    if low < 0:
        remedy = (
            "; give them unnormalised, and the model as blindspots.normalized(model, mean, std)"
        )
    return f"not in {low:.4g} to {high:.4g}{remedy}"


def _type(tensor):
    return str(tensor.dtype).removeprefix("torch.")
