"""What a trace makes of networks: layers, folded normalisation, constants, branches."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from blindspots.errors import UserError
from blindspots.experiments.frames.bounds import FIELDS, frame_bounds
from blindspots.models.networks import build_network
from blindspots.models.operators import Convolution, Dense, trace


class Function(nn.Module):
    """A network that is a function and some modules."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, images):
        return self.function(self, images)


def only(network, shape):
    """Return the one operation that a network is, apart from reshaping."""
    kinds = ("images", "rearranged")
    (operation,) = [o for o in trace(network, shape) if o.kind not in kinds]
    return operation


def norm_by_autograd(function, shape, steps=200):
    """Return the norm of a linear function by the power method, with torch's own adjoint."""
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        x = (x / x.norm()).requires_grad_()
        y = function(x)
        (x,) = torch.autograd.grad(y, x, y.detach())
    return float(y.detach().norm())


@pytest.mark.parametrize("kind", ["softmax", "mlp", "autoencoder", "conv"])
def test_all_built_in_networks_are_traced(kind):
    architecture = {"kind": kind, "widths": [6, 5], "activation": "sigmoid", "units": 7}
    architecture["channels"] = [3, 4]
    network = build_network(architecture, (1, 8, 8), 10, seed=0).train()
    rows = frame_bounds(network, (1, 8, 8))
    layers = {
        "softmax": ["64x10"],
        "mlp": ["64x6", "6x5", "5x10"],
        "autoencoder": ["64x7", "7x10"],
        "conv": ["1x3x3x3", "3x3x3x4", "16x7", "7x10"],
    }[kind]
    assert [row["size"] for row in rows if row["size"]] == layers
    sigmoids = sum(row["kind"] == "sigmoid" for row in rows)
    assert sigmoids == {"mlp": 2, "autoencoder": 1}.get(kind, 0)
    uppers = math.prod(row["upper"] for row in rows)
    assert rows[-1]["product"] == pytest.approx(uppers)
    assert all(tuple(row) == FIELDS for row in rows)
    assert network.training


def test_the_adjoint_is_the_adjoint():
    generator = torch.Generator().manual_seed(0)
    for groups, stride, padding, dilation in (
        (1, 1, 0, 1),
        (2, 2, 1, 1),
        (3, 3, 2, 2),
        (6, 2, 3, 1),
    ):
        weight = torch.randn(6, 6 // groups, 3, 2, dtype=torch.float64, generator=generator)
        pairs = [(value, value + 1) for value in (stride, padding)]
        layer = Convolution(weight, (11, 9), *pairs, (dilation, 1), groups)
        x = torch.randn(1, *layer.inputs, dtype=torch.float64, generator=generator)
        y = torch.randn(1, *layer.outputs, dtype=torch.float64, generator=generator)
        assert layer(x).shape == y.shape
        assert float((layer(x) * y).sum()) == pytest.approx(float((x * layer.adjoint(y)).sum()))


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_is_folded_into_convolutions(groups):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, eps=1e-3)
    convolution = nn.Conv2d(4, 6, 3, padding=1, groups=groups, bias=False)
    network = nn.Sequential(convolution, norm, nn.LeakyReLU(0.1)).double()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    norm.weight.data[0] *= -1
    layers = [o for o in trace(network, (4, 7, 7)) if o.layer]
    assert [o.kind for o in layers] == ["conv"]
    images = torch.rand(2, 4, 7, 7, dtype=torch.float64)
    network.eval()
    linear = network[:2](images) - network[:2](torch.zeros_like(images))
    assert torch.allclose(layers[0].layer(images), linear)
    assert [row["kind"] for row in frame_bounds(network, (4, 7, 7))] == ["conv"]


def test_batch_norm_is_folded_into_dense_and_transposed_layers():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6 * 8 * 8, 5, bias=False),
        nn.BatchNorm1d(5),
    ).double()
    for norm in (network[1], network[4]):
        norm.running_var.uniform_(0.5, 2)
    up, dense = [o for o in trace(network, (4, 4, 4)) if o.layer]
    images = torch.rand(2, 4, 4, 4, dtype=torch.float64)
    network.eval()
    assert torch.allclose(up.layer.adjoint(images), network[:2](images))
    maps = torch.rand(2, 6 * 8 * 8, dtype=torch.float64)
    assert torch.allclose(dense.layer(maps), network[3:](maps))
    row = frame_bounds(network, (4, 4, 4))[0]
    assert (row["kind"], row["size"], row["shape"]) == ("transposed conv", "4x3x3x6", "tall")
    exact = norm_by_autograd(network[:2], (4, 4, 4), steps=3000)
    assert row["sigma_max"] == pytest.approx(exact, rel=1e-6)


def test_batch_norm_whose_input_is_used_twice_stays_by_itself():
    norm = nn.BatchNorm2d(3)
    norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    network = Function(
        lambda self, x: (y := self.conv(x)) + self.norm(y), conv=nn.Conv2d(3, 3, 1), norm=norm
    )
    rows = frame_bounds(network, (3, 4, 4))
    assert [row["kind"] for row in rows] == ["conv", "norm"]
    assert rows[1]["lower"] == pytest.approx(0.5, abs=1e-5)
    assert rows[1]["upper"] == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("kernel", range(1, 6))
@pytest.mark.parametrize("stride", range(1, 5))
def test_max_pool_constant_is_reached_by_one_bright_cell(kernel, stride):
    constant = only(nn.MaxPool2d(kernel, stride), (1, 24, 24)).constant
    assert constant == math.ceil(kernel / stride)
    dark = torch.zeros(1, 1, 24, 24)
    gains = []
    for place in range(8, 16):
        bright = dark.clone()
        bright[..., place, place] = 1
        gains.append(float(functional.max_pool2d(bright, kernel, stride).norm()))
    assert max(gains) == pytest.approx(constant)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3, "stride": 2, "dilation": 2}, 17),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, 8),
        ({"kernel_size": (3, 2), "stride": (1, 2)}, 9),
        ({"kernel_size": 7, "stride": 1}, 7),
    ],
)
def test_max_pool_constant_counts_windows(options, size):
    constant = only(nn.MaxPool2d(**options), (1, size, size)).constant
    unit = torch.eye(size * size).view(-1, 1, size, size)
    gains = nn.MaxPool2d(**options)(unit).flatten(1).norm(dim=1)
    assert constant == pytest.approx(float(gains.max()))


@pytest.mark.parametrize(("size", "out"), [(8, 4), (9, 4), (7, 3), (6, 1)])
def test_adaptive_max_pool_constant(size, out):
    constant = only(nn.AdaptiveMaxPool2d(out), (1, size, size)).constant
    unit = torch.eye(size * size).view(-1, 1, size, size)
    gains = nn.AdaptiveMaxPool2d(out)(unit).flatten(1).norm(dim=1)
    assert constant == pytest.approx(float(gains.max()))


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d((2, 3), (1, 2)),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.AdaptiveAvgPool2d(1),
        Function(lambda self, x: x.mean((2, 3))),
        Function(lambda self, x: x.sum((2, 3))),
    ],
)
def test_averages_are_linear_maps_with_known_singular_values(pool):
    operation = only(pool, (1, 8, 7))
    matrix = pool(torch.eye(56).view(-1, 1, 8, 7)).flatten(1)
    values = torch.linalg.svdvals(matrix.double())
    assert operation.constant == pytest.approx(float(values[0]), abs=1e-6)
    assert operation.smallest == pytest.approx(float(values[-1]), abs=1e-6)


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.LeakyReLU(-3.0), nn.PReLU(init=1.5)),
        *(nn.Sigmoid(), nn.Tanh(), nn.ELU(2.0), nn.SELU(), nn.Softplus(), nn.SiLU()),
        *(nn.GELU(), nn.GELU(approximate="tanh"), nn.Hardswish(), nn.Hardsigmoid()),
    ],
    ids=repr,
)
def test_constants_of_activations_are_their_steepest_slope(activation):
    constant = only(activation, (1, 2, 2)).constant
    x = torch.linspace(-6, 6, 240_001, dtype=torch.float64)
    y = activation.double()(x).detach()
    steepest = float((y.diff() / x.diff()).abs().max())
    assert steepest <= constant * (1 + 1e-6)
    assert steepest >= constant * 0.997


def test_scaling_of_the_input_counts():
    mean, std = torch.rand(3, 1, 1), torch.tensor([0.2, 0.25, 0.5]).view(3, 1, 1)
    network = Function(lambda self, x: self.conv(255 * (x - mean) / std), conv=nn.Conv2d(3, 2, 1))
    rows = frame_bounds(network, (3, 4, 4))
    assert [row["kind"] for row in rows] == ["scale", "scale", "conv"]
    assert [row["upper"] for row in rows[:2]] == pytest.approx([255, 5])
    assert rows[1]["lower"] == pytest.approx(2)
    assert rows[2]["product"] == pytest.approx(255 * 5 * rows[2]["upper"])


def test_copies_count():
    network = Function(
        lambda self, x: self.conv(x.expand(-1, 4, -1, -1).repeat(1, 1, 2, 1)),
        conv=nn.Conv2d(4, 1, 1),
    )
    rows = frame_bounds(network, (1, 3, 3))
    assert [row["kind"] for row in rows] == ["repeated", "repeated", "conv"]
    assert [row["upper"] for row in rows[:2]] == pytest.approx([2, math.sqrt(2)])


def test_branches_are_joined_by_their_rules():
    torch.manual_seed(0)
    network = Function(
        lambda self, x: self.last(torch.cat([self.one(x), functional.relu(self.two(x))], 1)),
        one=nn.Conv2d(2, 3, 1),
        two=nn.Conv2d(2, 4, 3, padding=1),
        last=nn.Conv2d(7, 2, 1),
    )
    one, two, last = frame_bounds(network, (2, 6, 6))
    joined = math.hypot(one["upper"], two["upper"])
    assert last["product"] == pytest.approx(joined * last["upper"])

    residual = Function(
        lambda self, x: self.last(x + functional.relu(self.two(x))),
        two=nn.Conv2d(2, 2, 3, padding=1),
        last=nn.Conv2d(2, 2, 1),
    )
    two, last = frame_bounds(residual, (2, 6, 6))
    assert last["product"] == pytest.approx((1 + two["upper"]) * last["upper"])


def test_writing_in_place_changes_nothing():
    def forward(self, x):
        y = self.one(x)
        y += self.two(x)
        return self.last(functional.relu_(y.mul_(3)))

    torch.manual_seed(0)
    modules = {name: nn.Conv2d(2, 2, 1) for name in ("one", "two", "last")}
    one, two, scale, last = frame_bounds(Function(forward, **modules), (2, 5, 5))
    assert scale["upper"] == 3
    joined = one["upper"] + two["upper"]
    assert last["product"] == pytest.approx(3 * joined * last["upper"])


def test_after_writing_into_memory_that_is_shared_nothing_is_claimed():
    def forward(self, x):
        y = self.one(x)
        y.view(-1).mul_(3)
        return self.last(y)

    network = Function(forward, one=nn.Conv2d(2, 2, 1), last=nn.Conv2d(2, 2, 1))
    rows = frame_bounds(network, (2, 5, 5))
    assert math.isnan(rows[-1]["product"])
    assert rows[-1]["upper"] > 0


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mul", lambda x: x * x),
        ("softmax", lambda x: x.softmax(1)),
        ("add", lambda x: (x[:, :1] + torch.ones(1, 2, 4, 4)) if x.shape[1] == 2 else x),
        ("sub", lambda x: x - x.mean((2, 3), keepdim=True)),
        ("max", lambda x: x * float(x.max())),
        ("gt", lambda x: x * (x > 0.1)),
        ("copy", lambda x: torch.zeros_like(x).copy_(x)),
        ("native group norm", lambda x: functional.group_norm(x, 1)),
        ("native batch norm", lambda x: functional.batch_norm(x, None, None, training=True)),
    ],
)
def test_what_is_not_known_is_a_row_and_ends_the_product(name, function):
    network = Function(
        lambda self, x: self.two(function(function(self.one(x)))),
        one=nn.Conv2d(2, 2, 1),
        two=nn.Conv2d(2, 2, 1),
    )
    one, *between, two = frame_bounds(network, (2, 4, 4))
    (unknown,) = [row for row in between if row["method"] == "not known"]
    assert unknown["kind"] == name
    assert math.isnan(unknown["upper"])
    assert math.isnan(two["product"])
    assert min(one["product"], one["upper"], two["upper"]) > 0


def test_what_is_written_elsewhere_is_still_seen():
    def forward(self, x):
        wrapped = x.new_zeros(2, 2, 8, 8)
        wrapped[:, :, 2:6, 2:6] = x
        return self.conv(wrapped)

    (*_, row) = frame_bounds(Function(forward, conv=nn.Conv2d(2, 2, 1)), (2, 4, 4))
    assert row["kind"] == "conv"
    assert math.isnan(row["product"])


def test_one_dimensional_and_functional_layers():
    torch.manual_seed(0)
    weight = torch.randn(5, 4)

    def forward(self, x):
        x = self.conv(x.flatten(2)).transpose(1, 2)  # (B, 14, 4)
        return (x @ weight.T)[:, 0]

    convolution = nn.Conv1d(2, 4, 3)
    conv, dense = frame_bounds(Function(forward, conv=convolution), (2, 4, 4))
    assert (conv["size"], conv["input"]) == ("2x1x3x4", "2x1x16")
    exact = norm_by_autograd(
        lambda x: functional.conv1d(x, convolution.weight.double()), (2, 16), steps=2000
    )
    assert conv["sigma_max"] == pytest.approx(exact, rel=1e-6)
    assert dense["upper"] == pytest.approx(float(torch.linalg.matrix_norm(weight, 2)), rel=1e-5)


def test_a_network_without_layers_is_refused():
    with pytest.raises(UserError, match="no convolution or dense layer"):
        frame_bounds(nn.Sequential(nn.Flatten(), nn.ReLU()), (1, 4, 4))


def test_no_pair_of_images_exceeds_the_product():
    class Branched(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
            self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=4)
            self.thin = nn.Conv2d(8, 8, 1)
            self.head = nn.Linear(16, 5)

        def forward(self, x):
            x = functional.max_pool2d(functional.relu(self.stem(2 * x - 1)), 3, 1, 1)
            x = x + functional.leaky_relu(self.wide(x), 0.1)
            x = torch.cat([self.thin(x), torch.sigmoid(x)], 1)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    network = Branched().eval()
    rows = frame_bounds(network, (3, 10, 10))
    bound = rows[-1]["product"]
    assert [row["kind"] for row in rows if row["product"] > 0] == [row["kind"] for row in rows]
    x = torch.rand(1, 3, 10, 10)
    jacobian = torch.autograd.functional.jacobian(network, x).reshape(5, -1)
    gain = float(torch.linalg.matrix_norm(jacobian, 2))
    assert 0.001 * bound < gain <= bound


def test_dense_reads_its_shapes():
    layer = Dense(torch.zeros(3, 5))
    assert (layer.inputs, layer.outputs) == ((5,), (3,))
