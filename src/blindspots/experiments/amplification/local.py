"""How much a layer stretches the worst infinitesimal change of an image: the norm of a Jacobian."""

import torch

from blindspots.models.activations import differentiable_layers
from blindspots.models.state import frozen

STEPS, SETTLED = 30, 0.003  # at most, and the relative residual of a singular pair that ends them
FRESH = 0.3  # of a random direction, with which the best one of the layer before is mixed


def local_norms(network, layers, images, directions):
    """Return the largest singular value of the Jacobian of each layer at each image.

    By products of the Jacobian and of its transpose, as the power method takes them; but the best
    direction is looked for in the span of all steps (Golub and Kahan 1965), which takes fewer of
    them. It starts, but for the first layer, near the direction that the layer before stretches
    most. A value is at most the true one: it is what a direction that was found is stretched by.

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
                values, vectors = _worst_direction(output, points, vectors)
                row.copy_(values)
    return norms


def _worst_direction(output, points, start):
    """Return what the Jacobian of an output stretches a unit direction of each point by, and it."""
    # J^T u, as a function of u, is linear: its gradient along v is J v.
    with torch.enable_grad():
        dual = torch.zeros_like(output, requires_grad=True)
        (transposed,) = torch.autograd.grad(output, points, dual, create_graph=True)

    def forward(vectors):
        return torch.autograd.grad(transposed, dual, vectors, retain_graph=True)[0]

    def backward(vectors):
        return torch.autograd.grad(output, points, vectors, retain_graph=True)[0]

    inputs, mapped = [start], forward(start)
    diagonal, above = [_lengths(mapped)], []
    while True:
        mapped = _unit(mapped)
        back = backward(mapped) - _times(diagonal[-1], inputs[-1])
        beyond = _lengths(back)
        # In the span of the steps the Jacobian is this matrix.
        small = torch.diag_embed(torch.stack(diagonal, 1))
        if above:
            small += torch.diag_embed(torch.stack(above, 1), 1)
        left, values, right = torch.linalg.svd(small)
        residual = beyond * left[:, -1, 0].abs()
        if len(inputs) == STEPS or bool((residual <= SETTLED * values[:, 0]).all()):
            break
        above.append(beyond)
        inputs.append(_unit(back))
        mapped = forward(inputs[-1]) - _times(beyond, mapped)
        diagonal.append(_lengths(mapped))
    found = torch.einsum("bk,kb...->b...", right[:, 0], torch.stack(inputs))
    found = _unit(found)
    return _lengths(forward(found)), found


def _lengths(vectors):
    return vectors.flatten(1).norm(dim=1)


def _times(numbers, vectors):
    return numbers.view(-1, *[1] * (vectors.dim() - 1)) * vectors


def _unit(vectors):
    return _times(1 / _lengths(vectors).clamp_min(torch.finfo(vectors.dtype).tiny), vectors)
