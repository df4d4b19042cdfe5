"""Forward passes over many images."""

import torch

from blindspots.models.admission import admit
from blindspots.models.state import frozen


def logits_of(network, images, chunk, name="the model"):
    """Return the logits of all images.

    Parameters
    ----------
    network : torch.nn.Module or callable
    images : torch.Tensor of float32, shape (N, ...)
    chunk : int
        Images per forward pass.
    name : str
        What sentences call the network.

    Returns
    -------
    torch.Tensor of float32, shape (N, C)

    Raises
    ------
    blindspots.models.admission.ModelError
        If the network is refused (`blindspots.models.admission.admit`).
    """
    with frozen(network):
        model = admit(network, images, name=name)
        logits = torch.cat([model(part.clone()) for part in images.split(chunk)])
        model.check_again(logits)
    return logits


def answers_of(logits):
    """Return the class of the largest of each row of logits (B, C); -1 where one is no number."""
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))
