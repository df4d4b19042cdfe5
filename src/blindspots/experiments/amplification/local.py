"""How much a layer stretches the worst infinitesimal change of an image: the norm of a Jacobian."""

import torch

from blindspots.models.activations import differentiable_layers
from blindspots.models.state import frozen

STEPS, SETTLED = 30, 1e-3  # of the power method, and the relative gain of a step that ends it
FRESH = 0.3  # of a random direction, with which the best one of the layer before is mixed


def local_norms(network, layers, images, directions):
    """Return the largest singular value of the Jacobian of each layer at each image.

    By the power method with products of the Jacobian and of its transpose. It starts, but for the
    first layer, near the direction that the layer before stretches most. A value is at most the
    true one; after each step it is no smaller than before.

    Parameters
    ----------
    network : torch.nn.Module
    layers : list of blindspots.experiments.amplification.gains.Layer
    images : torch.Tensor, shape (B, ...)
    directions : torch.Tensor, shape (B, ...)
        Random ones to start from.

    Returns
    -------
    torch.Tensor, shape (L, B)
        NaN of layers whose gradients cannot be had; 1 for the images themselves.
    """
    norms = images.new_full((len(layers), len(images)), torch.nan)
    fresh = _unit(directions)
    points, vectors = images.clone().requires_grad_(), fresh
    numbers = {layer.number for layer in layers} - {None}
    with frozen(network):
        outputs = differentiable_layers(network, points, numbers)
        for row, layer in zip(norms, layers, strict=True):
            if layer.number is None:
                row.fill_(1.0)
            elif (output := outputs.pop(layer.number, None)) is not None:
                vectors = _unit(vectors + FRESH * fresh)
                values, vectors = _power_method(output, points, vectors)
                row.copy_(values)
    return norms


def _power_method(output, points, vectors):
    """Return the norm of the Jacobian of an output at each point, and the vectors that reach it."""
    # J^T u, as a function of u, is linear: its gradient along v is J v.
    with torch.enable_grad():
        dual = torch.zeros_like(output, requires_grad=True)
        (transposed,) = torch.autograd.grad(output, points, dual, create_graph=True)
    last = torch.zeros(len(points), dtype=points.dtype, device=points.device)
    for step in range(STEPS):
        (mapped,) = torch.autograd.grad(transposed, dual, vectors, retain_graph=True)
        norms = mapped.flatten(1).norm(dim=1)
        if step == STEPS - 1 or bool((norms <= last * (1 + SETTLED)).all()):
            break
        last = norms
        (back,) = torch.autograd.grad(output, points, mapped, retain_graph=True)
        vectors = torch.where((norms > 0).view(-1, *[1] * (back.dim() - 1)), _unit(back), vectors)
    return torch.maximum(norms, last), vectors


def _unit(vectors):
    lengths = vectors.flatten(1).norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)
    return vectors / lengths.view(-1, *[1] * (vectors.dim() - 1))
