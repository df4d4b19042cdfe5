"""Forward passes over many images."""

import torch


def logits_of(network, images, chunk):
    """Return the logits of all images.

    Parameters
    ----------
    network : torch.nn.Module
    images : torch.Tensor of float32, shape (N, ...)
    chunk : int
        Images per forward pass.

    Returns
    -------
    torch.Tensor, shape (N, C)
    """
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(chunk)])
