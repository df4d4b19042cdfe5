"""The minimum-distortion attack against closed forms, and its contract."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.evaluation.distortion import rms_distortion


def linear(weight, bias, shape):
    """Return the linear softmax network of a weight (C, n) and a bias (C,)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], weight.shape[0]))
    with torch.no_grad():
        network[1].weight.copy_(torch.as_tensor(weight))
        network[1].bias.copy_(torch.as_tensor(bias))
    return network.eval()


def coefficients(network):
    """Return weight and bias of a linear network in double precision."""
    layer = network[-1]
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def one_inequality_distance(weight, bias, image, label, other):
    """Return the exact distance to where one wrong logit reaches the true one, in the box.

    r(t) = clip(x + t a, 0, 1) - x, with a and beta the differences of weight and bias; t by
    bisection of the non-decreasing a . (x + r(t)) + beta.
    """
    a, beta = weight[other] - weight[label], bias[other] - bias[label]

    def reached(t):
        return a @ np.clip(image + t * a, 0, 1) + beta >= 0

    low, high = 0.0, 1.0
    while not reached(high):
        high *= 2
        if high > 1e12:
            return np.inf
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return np.linalg.norm(np.clip(image + high * a, 0, 1) - image)


def every_distance(network, images, labels):
    """Return `one_inequality_distance` / sqrt(n) to every label, (B, C); infinite to its own."""
    weight, bias = coefficients(network)
    flat = images.flatten(1).double().numpy()
    distances = np.full((len(flat), len(bias)), np.inf)
    for row, (image, label) in enumerate(zip(flat, labels.tolist(), strict=True)):
        for other in range(len(bias)):
            if other != label:
                distances[row, other] = one_inequality_distance(weight, bias, image, label, other)
    return distances / flat.shape[1] ** 0.5


def right_images(network, digits, count):
    """Return the first images that a network gets right, and their labels."""
    images, labels = digits
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    return images[right][:count], labels[right][:count]


@pytest.fixture(scope="module")
def linear_case(softmax, digits):
    """A trained softmax, 60 images, their labels, and the exact distances to all labels."""
    images, labels = right_images(softmax, digits, 60)
    return softmax, images, labels, every_distance(softmax, images, labels)


@pytest.fixture(scope="module")
def mlp_case(mlp, digits):
    """A trained sigmoid network, 60 images, labels and wrong targets of all shifts."""
    images, labels = right_images(mlp, digits, 60)
    return mlp, images, labels, (labels + 1 + torch.arange(60) % 9) % 10


@pytest.fixture(scope="module")
def mlp_result(mlp_case):
    network, images, labels, targets = mlp_case
    return lbfgs(network, images, labels, targets=targets)


@pytest.fixture
def three_images():
    return torch.rand(3, 4, generator=torch.Generator().manual_seed(0))


# Against closed forms ----------------------------------------------------------------------------


def test_nearest_is_the_closed_form(linear_case):
    """Of a linear softmax: mean within 0.1 %, every image within 1 %, and its class."""
    network, images, labels, distances = linear_case
    result = lbfgs(network, images, labels, targets="nearest")
    exact = distances.min(1)
    found = result.rms.double().numpy()
    assert result.success.all()
    assert found.mean() == pytest.approx(exact.mean(), rel=1e-3)
    np.testing.assert_allclose(found, exact, rtol=1e-2)
    reached = distances[range(len(found)), result.targets.numpy()]
    np.testing.assert_allclose(reached, exact, rtol=1e-2)


def test_untargeted_is_the_closed_form_of_the_class_that_it_reaches(linear_case):
    """It is exact for the wrong class that it reaches, which is the nearest one but for a few."""
    network, images, labels, distances = linear_case
    result = lbfgs(network, images, labels)
    found = result.rms.double().numpy()
    assert result.success.all()
    reached = distances[range(len(found)), result.targets.numpy()]
    np.testing.assert_allclose(found, reached, rtol=1e-3)
    excess = found / distances.min(1) - 1
    assert np.median(excess) < 1e-3
    assert excess.mean() < 0.01
    assert excess.max() < 0.2


@pytest.mark.parametrize("shape", [(12,), (1, 3, 4)])
def test_given_target_is_the_quadratic_programme(shape):
    """All inequalities at once, against SLSQP, with random weights and images at the bounds."""
    generator = np.random.default_rng(3)
    weight, bias = generator.standard_normal((5, 12)), generator.standard_normal(5) / 4
    network = linear(weight, bias, shape)
    weight, bias = coefficients(network)
    images = torch.from_numpy(generator.random((8, *shape), dtype=np.float32) * 1.4 - 0.2)
    images = images.clamp(0, 1)
    labels = network(images).argmax(1)
    targets = (labels + 1 + torch.arange(8) % 4) % 5
    result = lbfgs(network, images, labels, targets=targets)
    for row, target in enumerate(targets.tolist()):
        image = images[row].flatten().double().numpy()
        others = [j for j in range(5) if j != target]
        gap, offset = weight[target] - weight[others], bias[target] - bias[others]
        exact = minimize(
            lambda x, image=image: 0.5 * ((x - image) ** 2).sum(),
            np.full(12, 0.5),
            jac=lambda x, image=image: x - image,
            bounds=[(0, 1)] * 12,
            constraints={
                "type": "ineq",
                "fun": lambda x, gap=gap, offset=offset: gap @ x + offset,
                "jac": lambda x, gap=gap: gap,
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert result.success[row].item() is bool(exact.success)
        if exact.success:
            wanted = np.linalg.norm(exact.x - image) / 12**0.5
            assert result.rms[row].item() == pytest.approx(wanted, rel=2e-3)


def test_images_that_are_already_wrong_need_no_distortion(linear_case):
    """Untargeted, and targeted at the answer that the model gives already."""
    network, images, labels, _ = linear_case
    wrong = (labels + 1) % 10
    for targets in (None, labels):
        result = lbfgs(
            network, images[:5], wrong[:5], targets=None if targets is None else labels[:5]
        )
        assert result.success.all()
        assert torch.equal(result.rms, torch.zeros(5))
        assert torch.equal(result.targets, labels[:5])


# What holds for every model ----------------------------------------------------------------------


def test_sigmoid_network_always_falls(mlp_result):
    """Every attack succeeds, and most satisfy the first-order conditions to a part in a hundred."""
    assert mlp_result.success.all()
    assert mlp_result.kkt_residual.quantile(0.9) < 1e-2
    assert (mlp_result.kkt_residual >= 0).all()


def test_box_holds_exactly(mlp_case, mlp_result):
    network, images, labels, _ = mlp_case
    for result in (mlp_result, lbfgs(network, images, labels)):
        assert result.images.min() >= 0 and result.images.max() <= 1
        assert result.images.dtype == torch.float32


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_success_survives_another_batch_size(mlp_case, mlp_result, batch):
    """Logits move by rounding when the batch does: the margin of a success is larger."""
    network, _, _, targets = mlp_case
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in mlp_result.images.split(batch)])
    assert torch.equal(answers, targets)


def test_rms_is_that_of_the_images(mlp_case, mlp_result):
    images = mlp_case[1]
    torch.testing.assert_close(
        mlp_result.rms, rms_distortion(mlp_result.images, images), rtol=1e-4, atol=1e-7
    )
    assert torch.equal(mlp_result.targets, mlp_case[3])


def test_untargeted_result_names_the_label_reached(mlp_case):
    network, images, labels, _ = mlp_case
    result = lbfgs(network, images, labels)
    with torch.no_grad():
        answers = network(result.images).argmax(1)
    assert torch.equal(result.targets, answers)
    assert (answers != labels).all()


def test_nearest_is_no_farther_than_any_target(mlp_case, mlp_result):
    """Nor much farther than untargeted, at the cost of all nine targets."""
    network, images, labels, _ = mlp_case
    result = lbfgs(network, images[:20], labels[:20], targets="nearest")
    assert (result.rms <= mlp_result.rms[:20] * 1.001).all()
    assert (result.evaluations > 5 * mlp_result.evaluations[:20]).all()


def test_more_evaluations_cost_more(mlp_case):
    network, images, labels, targets = mlp_case
    few, many = (
        lbfgs(network, images[:5], labels[:5], targets=targets[:5], evaluations=n) for n in (20, 60)
    )
    assert (few.evaluations > 0).all()
    assert (many.evaluations > few.evaluations).any()


@pytest.mark.parametrize("targets", ["given", "nearest", None])
@pytest.mark.parametrize("shape", [(64,), (1, 8, 8)])
def test_shapes(softmax, digits, shape, targets):
    """Images come back in the shape in which they went in, everything else as (B,)."""
    images, labels = right_images(softmax, digits, 3)
    goal = (labels + 1) % 10 if targets == "given" else targets
    result = lbfgs(softmax, images.view(3, *shape), labels, targets=goal, evaluations=15)
    assert result.images.shape == (3, *shape)
    for name in ("success", "rms", "evaluations", "kkt_residual", "targets"):
        assert getattr(result, name).shape == (3,)
    assert result.success.dtype == torch.bool
    assert result.targets.dtype == result.evaluations.dtype == torch.int64


def test_images_need_not_be_contiguous(softmax, digits):
    images, labels = right_images(softmax, digits, 3)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    one, other = (lbfgs(softmax, x, labels, targets=(labels + 1) % 10) for x in (images, turned))
    torch.testing.assert_close(one.rms, other.rms)


def test_originals_are_left_alone(softmax, digits):
    images, labels = right_images(softmax, digits, 3)
    before = images.clone()
    lbfgs(softmax, images, labels)
    assert torch.equal(images, before)


# Failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["given", None, "nearest"])
def test_failure_is_never_a_zero(three_images, targets):
    """A class that wins nowhere in the box: no success, no number, the original image."""
    if targets == "given":  # class 2 is always below class 0
        network = linear(np.eye(3, 4), [0.0, 0.0, -5.0], (4,))
        labels = network(three_images).argmax(1)
        targets = torch.full((3,), 2)
    else:  # class 0 always wins
        network = linear(np.eye(3, 4), [5.0, 0.0, 0.0], (4,))
        labels = torch.zeros(3, dtype=torch.int64)
    result = lbfgs(network, three_images, labels, targets=targets)
    assert not result.success.any()
    assert result.rms.isnan().all()
    assert result.kkt_residual.isnan().all()
    assert torch.equal(result.images, three_images)
    assert (result.evaluations > 0).all()
    if targets is None:
        assert (result.targets == -1).all()


def test_failures_do_not_touch_their_neighbours(three_images):
    """An image whose target is impossible beside one whose target is possible."""
    network = linear(np.eye(3, 4), [0.0, 0.0, -5.0], (4,))
    labels = network(three_images).argmax(1)
    possible = 1 - labels
    alone = lbfgs(network, three_images[1:], labels[1:], targets=possible[1:])
    mixed = lbfgs(
        network, three_images, labels, targets=torch.cat([torch.tensor([2]), possible[1:]])
    )
    assert mixed.success.tolist() == [False, True, True]
    torch.testing.assert_close(mixed.rms[1:], alone.rms, rtol=1e-4, atol=0)


def test_model_with_constant_logits_fails(three_images):
    """No gradient anywhere: neither a success nor an error."""
    network = linear(np.zeros((3, 4)), [1.0, 0.0, 0.0], (4,))
    labels = torch.zeros(3, dtype=torch.int64)
    for targets in (torch.ones(3, dtype=torch.int64), None, "nearest"):
        result = lbfgs(network, three_images, labels, targets=targets)
        assert not result.success.any()
        assert torch.equal(result.images, three_images)


# Chunks and the state of the model ---------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 13])
def test_chunks_change_nothing_important(mlp_case, mlp_result, chunk):
    network, images, labels, targets = (part[:20] if n else part for n, part in enumerate(mlp_case))
    result = lbfgs(network, images, labels, targets=targets, chunk=chunk)
    assert torch.equal(result.success, mlp_result.success[:20])
    assert torch.equal(result.targets, targets)
    ratio = result.rms / mlp_result.rms[:20]
    assert (ratio - 1).abs().median() < 1e-3
    assert (ratio - 1).abs().max() < 0.05


def test_fewer_images_together_where_layers_are_large():
    """On a CPU; evenly, and with the results that a chunk of that size gives."""
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(4, 2**17), nn.Sigmoid(), nn.Linear(2**17, 3))
    images, labels = torch.rand(70, 4), torch.zeros(70, dtype=torch.int64)
    seen = []
    hook = wide.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    options = {"start_steps": 2, "evaluations": 1, "polish_steps": 1, "cut_steps": 0}
    found = lbfgs(wide, images, labels, **options)
    hook.remove()
    assert max(seen) == 24  # a MiB an image, and a little: 31 would fit, and 70 are 23, 23 and 24
    alone = lbfgs(wide, images[:23], labels[:23], **options)
    assert torch.equal(found.images[:23], alone.images)
    assert torch.equal(found.success[:23], alone.success)


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(three_images, training):
    """Mode and requires_grad of every part, and no gradient of the weights."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    network[1].requires_grad_(False)
    network.train(training)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    lbfgs(network, three_images, torch.zeros(3, dtype=torch.int64), evaluations=5)
    assert all(module.training is training for module in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_frozen_part_of_a_model_in_training_stays_in_evaluation_mode(three_images):
    """As batch normalisation of a pretrained part, whose statistics must not move."""
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).train()
    network[1].eval()
    lbfgs(network, three_images, torch.zeros(3, dtype=torch.int64), evaluations=5)
    assert network.training and not network[1].training


def test_model_is_restored_when_the_attack_raises(three_images):
    class Broken(nn.Linear):
        def forward(self, images):
            raise RuntimeError("broken")

    network = Broken(4, 3).train()
    with pytest.raises(ValueError, match=r"images of shape \(6, 4\) .*RuntimeError: broken"):
        lbfgs(network, three_images, torch.zeros(3, dtype=torch.int64))
    assert network.training and network.weight.requires_grad


def test_attack_works_where_gradients_are_switched_off(softmax, digits):
    images, labels = right_images(softmax, digits, 3)
    with torch.no_grad():
        assert lbfgs(softmax, images, labels).success.all()
    assert torch.is_grad_enabled()


class Hostile(torch.autograd.Function):
    """The identity, whose gradient is not a number at about a third of all points."""

    @staticmethod
    def forward(ctx, images):
        ctx.save_for_backward(images)
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        (images,) = ctx.saved_tensors
        poisoned = (images.sum(1) * 1e4).frac() < 0.3
        return torch.where(poisoned[:, None], torch.nan, gradient)


@pytest.mark.parametrize("options", [{}, {"polish_steps": 1, "cut_steps": 30}])
@pytest.mark.parametrize("attack", [lbfgs, partial(ddn, steps=30)])
def test_gradients_that_are_no_numbers_spoil_no_success(softmax, digits, attack, options):
    class Network(nn.Module):
        def forward(self, images):
            return softmax(Hostile.apply(images.flatten(1)).view_as(images))

    images, labels = right_images(softmax, digits, 60)
    targets = (labels + 1) % 10
    result = attack(Network(), images, labels, targets=targets, **options)
    assert result.success.float().mean() > 0.5
    assert result.images.isfinite().all()
    reached = softmax(result.images).argmax(1)
    assert torch.equal(reached[result.success], targets[result.success])
    assert result.rms[result.success].isfinite().all()


def test_attack_works_in_inference_mode_and_under_autocast(softmax, digits):
    """And with tensors that were made in inference mode; the result is the same."""
    images, _ = right_images(softmax, digits, 5)
    with torch.inference_mode():
        labels = softmax(images).argmax(1)
        inside = lbfgs(softmax, images.clone(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = lbfgs(softmax, images, labels)
    wanted = lbfgs(softmax, images, labels.clone())
    assert wanted.success.all()
    for found in (inside, lowered, lbfgs(softmax, images, labels)):
        assert torch.equal(found.images, wanted.images)


@pytest.fixture
def units():
    """Where torch may compute with TF32: told to do so, and afterwards as they were."""
    units = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before, matmul = torch.backends.cudnn.allow_tf32, units[0].fp32_precision
    torch.backends.cudnn.allow_tf32 = True
    units[0].fp32_precision = "tf32"
    yield units
    torch.backends.cudnn.allow_tf32 = before
    units[0].fp32_precision = matmul


def test_attack_is_precise_on_a_gpu(softmax, digits, units):
    """TF32 is off for the model, and afterwards as it was."""
    seen = []

    class Network(nn.Module):
        def forward(self, images):
            assert not torch.backends.cudnn.allow_tf32
            seen.append({unit.fp32_precision for unit in units})
            return softmax(images)

    images, labels = right_images(softmax, digits, 2)
    lbfgs(Network(), images, labels)
    assert seen and all(state == {"ieee"} for state in seen)
    assert {unit.fp32_precision for unit in units} == {"tf32"}
    assert torch.backends.cudnn.allow_tf32


# Input checks ------------------------------------------------------------------------------------

GOOD = {
    "images": torch.full((2, 4), 0.5),
    "labels": torch.tensor([0, 1]),
    "targets": torch.tensor([1, 2]),
}


@pytest.mark.parametrize(
    "change",
    [
        {"images": torch.full((2, 4), 0.5, dtype=torch.float64)},
        {"images": torch.ones((2, 4), dtype=torch.uint8)},
        {"images": torch.tensor([[0.5, 0.5, 0.5, torch.nan]] * 2)},
        {"images": torch.tensor([[0.5, 0.5, 0.5, 1.001]] * 2)},
        {"images": torch.tensor([[0.5, 0.5, 0.5, -0.001]] * 2)},
        {"images": torch.rand(2)},
        {"labels": torch.tensor([0, 1, 2])},
        {"labels": torch.tensor([[0, 1]])},
        {"labels": torch.tensor([0, 1], dtype=torch.int32)},
        {"labels": torch.tensor([0.0, 1.0])},
        {"targets": torch.tensor([0, 2])},
        {"targets": torch.tensor([1])},
        {"targets": torch.tensor([1.0, 2.0])},
        {"targets": "random"},
        {"chunk": 0},
        {"evaluations": 0},
        {"pairs": 0},
        {"inner_evaluations": -1},
    ],
    ids=lambda change: "-".join(change),
)
def test_wrong_inputs_raise(change):
    network = linear(np.eye(3, 4), np.zeros(3), (4,))
    arguments = {**GOOD, **change}
    with pytest.raises(ValueError):
        lbfgs(network, arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_empty_batch_raises():
    network = linear(np.eye(3, 4), np.zeros(3), (4,))
    with pytest.raises(ValueError):
        lbfgs(network, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": torch.tensor([0, 3])},
        {"labels": torch.tensor([0, -1])},
        {"targets": torch.tensor([1, 3])},
        {"targets": torch.tensor([1, -1])},
    ],
    ids=lambda change: "-".join(change),
)
def test_labels_that_the_model_does_not_have_raise(change):
    """The docstring promises ValueError for labels and targets out of range."""
    network = linear(np.eye(3, 4), np.zeros(3), (4,))
    arguments = {**GOOD, **change}
    with pytest.raises(ValueError):
        lbfgs(network, arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_flat_region_is_left_from_another_start():
    """A dead unit hides the target from the image; from mid-grey the attack finds the way."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]))
        network[1].bias.copy_(torch.tensor([0.0, -1.0]))
        network[3].weight.copy_(torch.tensor([[1.0, 0], [0, 0], [0, 9.0]]))
        network[3].bias.copy_(torch.tensor([0.5, -9.0, 0.0]))
    images = torch.tensor([[0.5, 0.1, 0.1, 0.1]])  # the second unit, and so class 2, is dead here
    result = lbfgs(network, images, torch.tensor([0]), targets=torch.tensor([2]))
    assert result.success.all()
    assert network(result.images).argmax(1).item() == 2


def test_tiny_perturbations_survive_rounding():
    """Images a hair's breadth from the boundary: the logits' rounding exceeds any relative margin.

    Found as nine images of 365,058 on MNIST that fell back when they were evaluated in other
    batches.
    """
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False)
    network[1].weight.normal_(generator=generator)
    network[1].bias.zero_()
    images = torch.rand(300, 784, generator=generator)
    labels = network(images).argmax(1)
    targets = network(images).topk(2, dim=1).indices[:, 1]
    # The images move to just before the boundary towards the runner-up.
    normal = network[1].weight[targets] - network[1].weight[labels]
    lack = -(normal * images).sum(1, dtype=torch.float64) / normal.double().square().sum(1)
    share = 1 - 10.0 ** torch.linspace(-7, -2, 300, dtype=torch.float64)
    images = (images + (share * lack)[:, None] * normal).float().clamp(0, 1)
    result = lbfgs(network, images, labels, targets=targets)
    assert result.success.all()
    for batch in (1, 7, 300):
        answers = torch.cat([network(part).argmax(1) for part in result.images.split(batch)])
        assert torch.equal(answers, targets)
    double = network.double()(result.images.double())
    assert torch.equal(double.argmax(1), targets)
    network.float()


def test_model_of_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        lbfgs(nn.Linear(4, 1), GOOD["images"], torch.zeros(2, dtype=torch.int64))


def test_more_steps_to_start_from_where_classes_are_many():
    """With the square root of their number, and never fewer than for ten."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20, 1, 4, 4, generator=generator)
    for classes, steps in ((2, 15), (10, 15), (90, 60)):
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).requires_grad_(False)
        network[1].weight.normal_(generator=generator)
        labels = network(images).argmax(1)
        found = lbfgs(network, images, labels)
        same = lbfgs(network, images, labels, start_steps=steps)
        assert torch.equal(found.evaluations, same.evaluations)
        assert torch.equal(found.images, same.images)
