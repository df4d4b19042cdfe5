"""A model that expects normalised images."""

from blindspots.models.normalized import Normalized
from blindspots.notebook.inputs import device_of


def normalized(model, mean, std):
    """Return a model of images in [0, 1] from one of images that are ``(images - mean) / std``.

    Gradients and distortions are then those of images in [0, 1].

    Parameters
    ----------
    model : torch.nn.Module or callable
        Maps normalised images (N, C, H, W) to logits. It is not changed.
    mean, std : sequence of float
        One for each channel, in units of images in [0, 1]; ``std`` is positive.

    Returns
    -------
    blindspots.models.normalized.Normalized
        On the device of the model.

    Raises
    ------
    ValueError
        If the lengths differ, or a number is not finite or ``std`` not positive.

    Examples
    --------
    >>> model = bs.normalized(network, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    """
    whole = Normalized(model, mean, std)
    device = device_of(model)
    whole.mean, whole.std = whole.mean.to(device), whole.std.to(device)
    return whole
