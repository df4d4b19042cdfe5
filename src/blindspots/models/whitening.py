"""Coordinates of a network's weights in which its loss is curved alike in all directions.

The Fisher information of the weights W of a layer, E (a a') x (g g') with its inputs a, a 1
appended for the bias, and the gradients g at its outputs, is nearly one Kronecker product A x G
(Martens and Grosse 2015, "Optimizing neural networks with Kronecker-factored approximate
curvature"; for convolutions Grosse and Martens 2016). So in coordinates P with
W = W0 + G^-1/2 P A^-1/2 it is nearly the identity. This is a change of variables: the loss is the
same, and so is its minimum.

A is the mean of |g|^2 a a' and G that of |a|^2 g g': a step of the power iteration that finds the
nearest product (Van Loan and Pitsianis 1993). Once most images are learned only the others count,
and their mean differs from that of all.
"""

from collections import Counter

import torch
from torch import nn

from blindspots.models.networks import SigmoidCode

DAMPING = 1e-4  # added to the Fisher information, whose small directions are uncertain
IMAGES = 6000  # that A and G are means over
TOGETHER = 500  # images of one pass: patches of convolutions need memory
WIDEST = 4096  # inputs or outputs of a layer that is whitened: the work grows with their cube


class Coordinates:
    """A vector in place of all weights that are trained: zero where they are now.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        Those that need no gradient are passed over.
    layers : sequence of WhitenedLayer
        Whose weights are among them.
    scales : list of float, optional
        For each parameter what its weights are multiples of, unless it is a layer's; else 1.

    Attributes
    ----------
    start : torch.Tensor, shape (n,)
        Zeros.
    """

    def __init__(self, parameters, layers=(), scales=None):
        self.parameters = [p for p in parameters if p.requires_grad]
        scales = scales or [1.0] * len(self.parameters)
        whitened = {id(p) for layer in layers for p in layer.parameters}
        self.parts = list(layers)
        for parameter, scale in zip(self.parameters, scales, strict=True):
            if id(parameter) not in whitened:
                self.parts.append(ScaledWeights(parameter, scale))
        self.sizes = [part.origin.numel() for part in self.parts]
        self.start = self.parameters[0].detach().new_zeros(sum(self.sizes))

    @torch.no_grad()
    def write(self, x):
        """Set the weights to those of a vector x (n,)."""
        for part, values in zip(self.parts, x.split(self.sizes), strict=True):
            part.write(values.view(part.origin.shape))

    @torch.no_grad()
    def gradient(self):
        """Return the gradient in x (n,) from those of the weights, a fresh tensor."""
        return torch.cat([part.gradient().flatten() for part in self.parts])


class ScaledWeights:
    """Weights as a multiple of their part of the vector.

    Parameters
    ----------
    parameter : torch.nn.Parameter
    scale : float
    """

    def __init__(self, parameter, scale=1.0):
        self.parameters, self.scale = (parameter,), scale
        self.origin = parameter.detach().clone()

    def write(self, x):
        torch.add(self.origin, x, alpha=self.scale, out=self.parameters[0].data)

    def gradient(self):
        gradient = self.parameters[0].grad
        return torch.zeros_like(self.origin) if gradient is None else gradient * self.scale


class WhitenedLayer:
    """The weights of a linear or convolutional layer, with its bias as their last column.

    Parameters
    ----------
    layer : torch.nn.Module
    inputs, outputs : torch.Tensor, shapes (i, i) and (o, o)
        The factors A and G.
    damping : float
        Added to their product's eigenvalues, about.
    """

    def __init__(self, layer, inputs, outputs, damping):
        weight, bias = layer.weight.detach(), layer.bias
        self.parameters = (layer.weight,) if bias is None else (layer.weight, bias)
        columns = [weight.flatten(1)] + ([] if bias is None else [bias.detach()[:, None]])
        self.origin = torch.cat(columns, 1)  # (o, i)
        self.right, self.left = inverse_roots(inputs, outputs, damping)
        # Of all columns, and views of them in the shapes of the parameters.
        self.values, self.slopes = torch.empty_like(self.origin), torch.empty_like(self.origin)
        self.value_views, self.slope_views = (
            (whole[:, : weight[0].numel()].unflatten(1, weight.shape[1:]), whole[:, -1])
            for whole in (self.values, self.slopes)
        )

    def write(self, x):
        torch.addmm(self.origin, self.left @ x, self.right, out=self.values)
        for parameter, values in zip(self.parameters, self.value_views, strict=False):
            parameter.copy_(values)

    def gradient(self):
        for slopes, parameter in zip(self.slope_views, self.parameters, strict=False):
            slopes.copy_(parameter.grad)
        return self.left @ self.slopes @ self.right


def inverse_roots(inputs, outputs, damping):
    """Return the inverse roots of two factors, with their shares of the damping added.

    They are in the proportion of the mean eigenvalues (Martens and Grosse 2015, section 6.3).

    Parameters
    ----------
    inputs, outputs : torch.Tensor, shapes (i, i) and (o, o)
        Symmetric, without negative eigenvalues but for rounding; they may be singular, or 0.
    damping : float
        The product of the shares; above 0.

    Returns
    -------
    inputs, outputs : torch.Tensor of the same shapes
    """
    first, second = (matrix.trace().item() / len(matrix) for matrix in (inputs, outputs))
    ratio = first / second if first > 0 and second > 0 else 1.0
    found = []
    for matrix, share in ((inputs, ratio), (outputs, 1 / ratio)):
        values, vectors = torch.linalg.eigh(matrix.double())
        values = values.clamp_min(0) + (damping * share) ** 0.5
        found.append(((vectors * values.rsqrt()) @ vectors.T).to(matrix))
    return found


class _Moments:
    """Sums over images of a a' and g g' of the layers of a network, from hooks on them."""

    def __init__(self, layers):
        self.inputs, self.outputs = {}, {}
        self.hooks = [layer.register_forward_hook(self._passed) for layer in layers]

    def remove(self):
        for hook in self.hooks:
            hook.remove()

    def _passed(self, layer, inputs, output):
        # Without their graphs: a hook that holds its own tensor would keep all of them in memory.
        images, outputs = inputs[0].detach(), output.detach()
        if output.requires_grad:
            output.register_hook(lambda slopes: self._add(layer, images, outputs, slopes))

    def _add(self, layer, images, output, slopes):
        if isinstance(layer, SigmoidCode):
            slopes = slopes * output * (1 - output)  # before the sigmoid
        if isinstance(layer, nn.Conv2d):  # a row for each position
            geometry = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
            images = nn.functional.unfold(images, *geometry).transpose(1, 2)
            slopes = slopes.flatten(2).transpose(1, 2)
        rows, slopes = images.flatten(0, -2), slopes.flatten(0, -2)
        if layer.bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        ours, theirs = (part.square().sum(1, keepdim=True) for part in (rows, slopes))
        self.inputs[layer] = self.inputs.get(layer, 0) + (rows * theirs).T @ rows
        self.outputs[layer] = self.outputs.get(layer, 0) + (slopes * ours).T @ slopes


def whitened(network, images, probe, decays, seed):
    """Return coordinates of a network's weights that are whitened where these are now.

    Linear and convolutional layers and the codes of auto-encoders are, if they have their weights
    for themselves; other weights are scaled, each tensor by one number.

    Parameters
    ----------
    network : torch.nn.Module
        The gradients of its weights are lost.
    images : torch.Tensor, shape (N, ...)
        That it is trained on.
    probe : callable
        ``probe(images, generator)`` returns a scalar, a sum over images of terms that are 0 in the
        mean over its draws and whose gradients have the Fisher information as covariance.
    decays : dict of torch.nn.Parameter to float
        What the weight decay adds to the curvature, which is the same in all directions of a
        weight; 0 unless given.
    seed : int
        0 to 2**63 - 1.

    Returns
    -------
    Coordinates
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    layers = _separate_layers(network)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:IMAGES].to(images.device)
    squares = [0.0] * len(parameters)
    moments = _Moments(layers)
    for rows in chosen.split(TOGETHER):
        for parameter in parameters:
            parameter.grad = None
        probe(images[rows], generator).backward()
        for index, parameter in enumerate(parameters):
            if id(parameter) not in inside and parameter.grad is not None:
                squares[index] += parameter.grad.square().mean().item()
    moments.remove()
    found = []
    for layer in layers:
        if layer in moments.inputs:
            inputs, outputs = moments.inputs[layer], moments.outputs[layer] / len(chosen)
            # Both have the same trace, which their product must have, too.
            size = inputs.trace().item() or 1.0
            damping = DAMPING + decays.get(layer.weight, 0.0)
            found.append(WhitenedLayer(layer, inputs / size, outputs, damping))
    scales = [
        (square / len(chosen) + DAMPING + decays.get(parameter, 0.0)) ** -0.5
        for parameter, square in zip(parameters, squares, strict=True)
    ]
    return Coordinates(parameters, found, scales)


def random_signs(like, generator):
    """Return independent signs, -1 and 1, of the shape of a tensor; the same on all devices."""
    return torch.randint(0, 2, like.shape, generator=generator).mul_(2).sub_(1).to(like)


def _separate_layers(network):
    """Return the layers that can be whitened: of a known kind, trained, with their own weights."""
    modules = list(network.modules())
    uses = Counter(id(p) for module in modules for p in module.parameters(recurse=False))
    return [
        module
        for module in modules
        # No derived classes, which may do something else with their weights.
        if type(module) in (nn.Linear, nn.Conv2d, SigmoidCode)
        and all(p.requires_grad and uses[id(p)] == 1 for p in module.parameters())
        and {"weight", "bias"} >= {name for name, _ in module.named_parameters()}
        and max(module.weight[0].numel(), len(module.weight)) <= WIDEST
        and (not isinstance(module, nn.Conv2d) or _unfolds(module))
    ]


def _unfolds(layer):
    """Tell whether `torch.nn.functional.unfold` returns the patches of a convolution."""
    plain = layer.groups == 1 and layer.padding_mode == "zeros"
    return plain and not isinstance(layer.padding, str)
