"""What a network does, operation by operation: its linear layers and the constants of the rest.

One pass over two images is watched at the level of torch's own operators, so it makes no difference
whether a layer is a module, a function or a method. Every operation gets a Lipschitz constant; what
is not known has none, and then no bound of the whole network exists from there on.
"""

import math
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from blindspots.models.state import frozen, parameters_of

# The largest slope of what acts on each number by itself; the last two are rounded up.
SLOPES = dict.fromkeys(("relu", "tanh", "hardtanh", "softplus", "abs", "clamp", "neg"), 1.0)
SLOPES |= {"sigmoid": 1 / 4, "hardsigmoid": 1 / 6, "hardswish": 3 / 2, "silu": 1.0999, "gelu": 1.13}
# What moves, copies or leaves out numbers, none of them twice, or puts constants beside them.
REARRANGED = {
    *("view", "_unsafe_view", "reshape", "flatten", "permute", "transpose", "t", "squeeze"),
    *("unsqueeze", "clone", "detach", "alias", "_to_copy", "slice", "select", "split"),
    *("split_with_sizes", "unbind", "constant_pad_nd", "flip", "roll", "pixel_shuffle"),
    *("pixel_unshuffle", "native_channel_shuffle", "channel_shuffle"),
}
# What asks an image for its shape and type alone.
CREATED = {
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
}


@dataclass(frozen=True)
class Convolution:
    """A convolution with zero padding, as a linear map of images of one size.

    Attributes
    ----------
    weight : torch.Tensor, shape (F, C / groups, kh, kw)
    size : tuple of int
        Height and width of the images that it is given.
    stride, padding, dilation : tuple of int
        Of height and width.
    groups : int
    transposed : bool
        Whether the network applies the adjoint, as transposed convolutions do.
    """

    weight: torch.Tensor
    size: tuple
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    dilation: tuple = (1, 1)
    groups: int = 1
    transposed: bool = False

    @property
    def kernel(self):
        """Height and width that the kernel reaches over, holes of a dilated one included."""
        taps = self.weight.shape[2:]
        return tuple((k - 1) * d + 1 for k, d in zip(taps, self.dilation, strict=True))

    @property
    def inputs(self):
        """Shape of an image, (C, H, W)."""
        return (self.weight.shape[1] * self.groups, *self.size)

    @property
    def outputs(self):
        """Shape of what becomes of it, (F, H', W')."""
        axes = zip(self.size, self.padding, self.kernel, self.stride, strict=True)
        return (self.weight.shape[0], *((n + 2 * p - k) // s + 1 for n, p, k, s in axes))

    def __call__(self, images):
        """Map images (B, C, H, W) to (B, F, H', W')."""
        return functional.conv2d(images, self.weight, None, *self._geometry(), self.groups)

    def adjoint(self, maps):
        """Map (B, F, H', W') to (B, C, H, W)."""
        stride, padding, dilation = self._geometry()
        axes = zip(self.size, padding, self.kernel, stride, strict=True)
        left = tuple((n + 2 * p - k) % s for n, p, k, s in axes)  # cells that no window reaches
        return functional.conv_transpose2d(
            maps, self.weight, None, stride, padding, left, self.groups, dilation
        )

    def _geometry(self):
        return self.stride, self.padding, self.dilation


@dataclass(frozen=True)
class Dense:
    """A dense layer.

    Attributes
    ----------
    weight : torch.Tensor, shape (outputs, inputs)
    """

    weight: torch.Tensor

    @property
    def inputs(self):
        """Shape of an input."""
        return (self.weight.shape[1],)

    @property
    def outputs(self):
        """Shape of an output."""
        return (self.weight.shape[0],)

    def __call__(self, inputs):
        """Map (B, inputs) to (B, outputs)."""
        return inputs @ self.weight.T

    def adjoint(self, outputs):
        """Map (B, outputs) to (B, inputs)."""
        return outputs @ self.weight


@dataclass(eq=False)
class Operation:
    """One step of a network.

    Attributes
    ----------
    kind : str
        What it is; a ``sum`` and a ``concatenation`` join their sources.
    sources : tuple of Operation
        Where its inputs come from.
    layer : Convolution, Dense or None
        What has weights, with the batch normalisation that follows folded into it.
    constant : float or None
        The Lipschitz constant of what has none; None where it is not known.
    smallest : float
        The smallest singular value of a linear operation without a layer; NaN of others.
    method : str
        How the constant is known.
    module : str
        Name of the module that performs it.
    scale : torch.Tensor or None
        What a batch normalisation multiplies each channel by.
    number : int or None
        Its place among the operators of the pass that `is_numbered`; None of others.
    """

    kind: str
    sources: tuple = ()
    layer: Convolution | Dense | None = None
    constant: float | None = None
    smallest: float = math.nan
    method: str = ""
    module: str = ""
    scale: torch.Tensor | None = None
    number: int | None = None


def trace(network, shape):
    """Return what a network does to an image, step by step.

    Parameters
    ----------
    network : torch.nn.Module
        Maps images (B, *shape) to logits; it is left as it was.
    shape : tuple of int
        Shape of one image, (C, H, W).

    Returns
    -------
    list of Operation
        In the order of the pass, the images themselves first. Batch normalisation is part of the
        layer whose output it alone takes.
    """
    weights = parameters_of(network)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    if weights:
        images = images.to(weights[0])
    with frozen(network), _names(network) as running, _Watch(images, running) as watch:
        network(images)
    return _folded(watch.operations)


def windows_per_cell(kernel, stride, dilation, windows):
    """Return in how many windows of a pooling a cell lies at most, along one axis.

    Each window may answer for the cell, so the square root of their number, over both axes, is the
    Lipschitz constant of a max-pooling: above 1 wherever windows overlap.

    Parameters
    ----------
    kernel, stride, dilation : int
    windows : int
        How many there are.
    """
    return min(windows, math.ceil(kernel / (stride // math.gcd(stride, dilation))))


def operator_name(function):
    """Return the name of an operator, the same whether it works in place or not."""
    name = function.overloadpacket.__name__
    return name if name.startswith("_") else name.rstrip("_")


def is_numbered(name):
    """Tell whether operators of a name are numbered along a pass: all that are layers.

    What moves or copies numbers is not, for torch does so more or less often with gradients.
    """
    return name in SLOPES or name in HANDLERS


class _Watch(TorchDispatchMode):
    """Notes every operator that is applied to the images or to what became of them."""

    def __init__(self, images, running):
        super().__init__()
        self.running = running
        self.operations = [Operation("images", constant=1.0)]
        self.known = {id(images): (images, self.operations[0])}  # the tensor stays, and so its id
        self.written = {}  # by storage: what was last written there
        self.numbered = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        number, name = None, operator_name(function)
        if is_numbered(name):
            number, self.numbered = self.numbered, self.numbered + 1
        values = _bound(function, args, kwargs)
        sources = {argument: self._source(value) for argument, value in values.items()}
        sources = {argument: source for argument, source in sources.items() if source}
        if sources and function.overloadpacket.__name__ not in CREATED:
            operation = _operation(name, values, sources, _tensors(result))
            operation.number = number
            self._note(operation, function, name, _tensors(result))
        return result

    def _note(self, operation, function, name, results):
        operation.module = self.running[-1]
        self.operations.append(operation)
        unknown = Operation(operation.kind, (operation,), module=operation.module)
        if not results:  # a number has left for Python, where it can do anything
            self.known = {key: (tensor, unknown) for key, (tensor, _) in self.known.items()}
        if function._schema.is_mutable:
            self._overwrite(results, unknown)
        for position, tensor in enumerate(results):
            alike = position == 0 or name in REARRANGED  # others are statistics or positions
            self.known[id(tensor)] = (tensor, operation if alike else unknown)

    def _source(self, value):
        """Return the operations that a value comes from; none of constants."""
        found = []
        for tensor in _tensors(value):
            _, operation = self.known.get(id(tensor), (None, None))
            operation = operation or self.written.get(_storage(tensor))
            found += [operation] if operation else []
            if operation and operation not in self.operations:
                self.operations.append(operation)
        return tuple(found)

    def _overwrite(self, results, unknown):
        """Give up on every tensor that shares the memory written into."""
        for place in filter(None, map(_storage, results)):
            self.written[place] = unknown
            for key, (tensor, _) in self.known.items():
                if _storage(tensor) == place:
                    self.known[key] = (tensor, unknown)


def _storage(tensor):
    return tensor.untyped_storage().data_ptr()


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [one for one in value if isinstance(one, torch.Tensor)]
    return []


def _bound(function, args, kwargs):
    """Return the values of all arguments of an operator, by name."""
    arguments = function._schema.arguments
    values = {argument.name: argument.default_value for argument in arguments}
    values |= {argument.name: value for argument, value in zip(arguments, args, strict=False)}
    return values | kwargs


@contextmanager
def _names(network):
    """Yield the names of the modules that run, the innermost last."""
    running = [""]

    def start(name):
        return lambda *_: running.append(name)

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for handle in (
                module.register_forward_pre_hook(start(name)),
                module.register_forward_hook(lambda *_: running.pop() and None),
            ):
                stack.callback(handle.remove)
        yield running


def _operation(name, values, sources, results):
    """Return what an operator does; with no constant if that is not known."""
    unknown = Operation(name.strip("_").replace("_", " "), sum(sources.values(), ()))
    known = _fixed if name in SLOPES or name in REARRANGED else HANDLERS.get(name)
    if known is None or not results or not results[0].is_floating_point():
        return unknown
    return known(name, values, sources, results[0]) or unknown


def _fixed(name, values, sources, result):
    first = next(iter(values))
    if set(sources) != {first}:
        return None
    if name in SLOPES:
        return Operation(name, sources[first], constant=SLOPES[name], method="slope")
    return Operation("rearranged", sources[first], constant=1.0)


def _repeated(name, values, sources, result):
    times = math.sqrt(result.numel() / values["self"].numel())
    return Operation("repeated", sources["self"], None, times, times, method="copies")


def _leaky(name, values, sources, result):
    steepest = max(1.0, abs(values["negative_slope"]))
    return Operation("leaky relu", sources["self"], constant=steepest, method="slope")


def _elu(name, values, sources, result):
    below, above = values["alpha"] * values["input_scale"], 1.0
    steepest = abs(values["scale"]) * max(abs(below), above)
    return Operation("elu", sources["self"], constant=steepest, method="slope")


def _prelu(name, values, sources, result):
    if set(sources) != {"self"}:
        return None
    steepest = max(1.0, float(values["weight"].abs().max()))
    return Operation("prelu", sources["self"], constant=steepest, method="slope")


def _convolution(name, values, sources, result):
    weight, images = values["weight"], values["input"]
    if set(sources) != {"input"} or weight.dim() > 4:
        return None
    transposed = values["transposed"]
    geometry = [values[key] for key in ("stride", "padding", "dilation")]
    size = (result if transposed else images).shape[2:]
    if weight.dim() == 3:  # images of height 1
        weight, size = weight.unsqueeze(2), (1, *size)
        geometry = [[neutral, *value] for neutral, value in zip((1, 0, 1), geometry, strict=True)]
    layer = Convolution(
        weight.detach().double().cpu(),
        tuple(size),
        *(tuple(value) for value in geometry),
        values["groups"],
        transposed,
    )
    kind = "transposed conv" if transposed else "conv"
    return Operation(kind, sources["input"], layer=layer)


def _dense(name, values, sources, result):
    """One of two factors is constant; ``bmm`` multiplies many matrices, perhaps all by the same."""
    first, second = FACTORS[name]
    if set(sources) == {first}:
        weight = values[second] if name == "linear" else values[second].mT
    elif set(sources) == {second} and name != "linear":
        weight = values[first]
    else:
        return None
    if name == "bmm":
        if not torch.equal(weight, weight[:1].expand_as(weight)):
            return None
        weight = weight[0]
    layer = Dense(values.get("alpha", 1) * weight.detach().double().cpu())
    return Operation("dense", next(iter(sources.values())), layer=layer)


def _batch_norm(name, values, sources, result):
    if set(sources) != {"input"} or values["training"] or values["running_var"] is None:
        return None
    eps = values.get("eps", values.get("epsilon"))
    scale = (values["running_var"].double() + eps).rsqrt()
    if values["weight"] is not None:
        scale = scale * values["weight"].double()
    return replace(_scaling("norm", scale, sources["input"]), scale=scale.detach().cpu())


def _scaled(name, values, sources, result):
    scaled, factor = values["self"], values["other"]
    if name == "mul" and set(sources) == {"other"}:
        scaled, factor = factor, scaled
    elif set(sources) != {"self"}:
        return None
    if values.get("rounding_mode") or scaled.shape != result.shape:
        return None
    factor = torch.as_tensor(factor, dtype=torch.float64)
    return _scaling("scale", factor if name == "mul" else 1 / factor, *sources.values())


def _scaling(kind, factors, sources):
    smallest, largest = (float(edge) for edge in torch.aminmax(factors.abs()))
    return Operation(kind, sources, None, largest, smallest, method="diagonal")


def _sum(name, values, sources, result):
    """Addition and subtraction; a constant moves everything alike."""
    if any(values[key].shape != result.shape for key in sources):
        return None  # one of them is repeated
    operands = [sources.get(key, ()) for key in ("self", "other")]
    scale = abs(values["alpha"])
    factors = (scale, 1) if name == "rsub" else (1, scale)
    weights = [f for f, operand in zip(factors, operands, strict=True) if operand]
    if len(weights) == 1 or all(weight == 1 for weight in weights):
        kind = "sum" if len(weights) == 2 else "shift"
        return Operation(kind, sum(operands, ()), constant=float(max(weights)), method="diagonal")
    return None


def _concatenation(name, values, sources, result):
    return Operation("concatenation", sources["tensors"], constant=1.0)


def _mean(name, values, sources, result):
    source = values["self"]
    axes = values.get("dim") or range(source.dim())
    cells = math.prod(source.shape[axis] for axis in axes)
    gain = 1 / math.sqrt(cells) if name == "mean" else math.sqrt(cells)
    kind = {"sum": "total"}.get(name, name)
    return Operation(kind, sources["self"], None, gain, gain, method="axes")


def _max_pool(name, values, sources, result):
    kernel, stride, dilation = values["kernel_size"], values["stride"], values["dilation"]
    axes = [_pair(value) for value in (kernel, stride or kernel, dilation)] + [result.shape[-2:]]
    gain = math.sqrt(math.prod(windows_per_cell(*axis) for axis in zip(*axes, strict=True)))
    return Operation("max pool", sources["self"], constant=gain, method="windows per cell")


def _adaptive_max_pool(name, values, sources, result):
    sizes = list(zip(values["self"].shape[-2:], result.shape[-2:], strict=True))
    if any(cells < windows for cells, windows in sizes):
        return None
    # Neighbouring windows share a cell where their number does not divide the cells.
    gain = math.sqrt(math.prod(1 if cells % windows == 0 else 2 for cells, windows in sizes))
    return Operation("max pool", sources["self"], constant=gain, method="windows per cell")


def _average_pool(name, values, sources, result):
    """Averages over windows act on each axis by itself, so singular values are products."""
    size = values["self"].shape[-2:]
    if name == "avg_pool2d":
        kernel = _pair(values["kernel_size"])
        stride = _pair(values["stride"] or values["kernel_size"])
        rest = values["ceil_mode"], values["count_include_pad"]
        axes = zip(size, kernel, stride, _pair(values["padding"]), strict=True)
        matrices = [functional.avg_pool1d(_unit_vectors(n), *axis, *rest) for n, *axis in axes]
        if values["divisor_override"]:
            return None
    else:
        axes = zip(size, values["output_size"], strict=True)
        matrices = [functional.adaptive_avg_pool1d(_unit_vectors(n), out) for n, out in axes]
    values = [torch.linalg.svdvals(matrix[:, 0]) for matrix in matrices]
    wide = all(matrix.shape[2] <= matrix.shape[0] for matrix in matrices)
    smallest = math.prod(float(v[-1]) for v in values) if wide else math.nan
    largest = math.prod(float(v[0]) for v in values)
    return Operation("average pool", sources["self"], None, largest, smallest, method="axes")


def _unit_vectors(count):
    return torch.eye(count, dtype=torch.float64)[:, None]


def _pair(value):
    value = list(value) if isinstance(value, list | tuple) else [value]
    return value * 2 if len(value) == 1 else value


FACTORS = {"linear": ("input", "weight"), "addmm": ("mat1", "mat2")}
FACTORS |= dict.fromkeys(("mm", "bmm"), ("self", "mat2"))
HANDLERS = {
    **dict.fromkeys(FACTORS, _dense),
    **dict.fromkeys(("native_batch_norm", "cudnn_batch_norm"), _batch_norm),
    **dict.fromkeys(("mul", "div"), _scaled),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    **dict.fromkeys(("cat", "stack"), _concatenation),
    **dict.fromkeys(("mean", "sum"), _mean),
    **dict.fromkeys(("avg_pool2d", "_adaptive_avg_pool2d"), _average_pool),
    "convolution": _convolution,
    "expand": _repeated,
    "repeat": _repeated,
    "leaky_relu": _leaky,
    "elu": _elu,
    "_prelu_kernel": _prelu,
    "max_pool2d_with_indices": _max_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
}


def _folded(operations):
    """Fold each batch normalisation into the layer that it follows, if nothing else does."""
    users = Counter(source for operation in operations for source in operation.sources)
    kept = []
    for operation in operations:
        layer = operation.sources[0] if operation.kind == "norm" else None
        if layer is None or layer.layer is None or users[layer] > 1:
            kept.append(operation)
            continue
        operation.kind, operation.sources = layer.kind, layer.sources
        operation.layer = _scaled_layer(layer.layer, operation.scale)
        operation.module, operation.method = layer.module, ""
        kept[kept.index(layer)] = operation
    return kept


def _scaled_layer(layer, scale):
    """Return a layer whose output channels are scaled."""
    if isinstance(layer, Convolution) and layer.transposed:
        inputs, outputs, *taps = layer.weight.shape
        grouped = layer.weight.view(layer.groups, inputs // layer.groups, outputs, *taps)
        scaled = grouped * scale.view(layer.groups, 1, outputs, *(1 for _ in taps))
        return replace(layer, weight=scaled.view_as(layer.weight))
    return replace(layer, weight=layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)))
