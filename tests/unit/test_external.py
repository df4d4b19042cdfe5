"""Attacks of other libraries and of users: found, called, and not taken on trust."""

import random
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.attacks import external as module
from blindspots.attacks.external import ADV_LIB, AttackError, external
from blindspots.attacks.lbfgs import lbfgs
from blindspots.attacks.selfcheck import linear_problem


@pytest.fixture
def user(monkeypatch):
    """Make a function importable as ``own_attacks:<name>``; return what does it."""
    own = ModuleType("own_attacks")
    monkeypatch.setitem(sys.modules, "own_attacks", own)

    def install(function, name="attack"):
        setattr(own, name, function)
        return external(f"own_attacks:{name}")

    return install


@pytest.fixture(scope="module")
def problem():
    model, images, labels, exact = linear_problem()
    best = lbfgs(model, images, labels, targets=None)
    return model, images[:20], labels[:20], exact[:20], best.images[:20]


def test_users_attack_gets_what_the_contract_says(user, problem):
    model, images, labels, _, best = problem
    seen = {}

    def attack(network, x, y, targets, **options):
        seen.update(x=x, y=y, targets=targets, options=options, logits=network(x))
        return best

    result = user(attack)(model, images, labels, depth=3)
    assert torch.equal(seen["x"], images) and torch.equal(seen["y"], labels)
    assert seen["targets"] is None and seen["options"] == {"depth": 3}
    torch.testing.assert_close(seen["logits"], model(images))
    assert result.success.all()
    assert torch.equal(result.images, best)
    assert (result.kkt_residual < 1e-3).all()


def test_targets_and_gradients_reach_the_attack(user, problem):
    model, images, labels, _, _ = problem
    goals = (labels + 1) % 10

    def attack(network, x, y, targets):
        assert torch.equal(targets, goals)
        for _ in range(30):
            x = x.detach().requires_grad_(True)
            loss = torch.nn.functional.cross_entropy(network(x), targets, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            x = (x - 0.1 * gradient.sign()).clamp(0, 1)
        return x.detach()

    result = user(attack)(model, images, labels, targets=goals)
    assert result.success.float().mean() > 0.9
    assert torch.equal(result.targets, goals)
    assert (result.evaluations >= 30).all() and (result.evaluations <= 32).all()


@pytest.mark.parametrize("what", ["nan", "outside", "unchanged", "boundary"])
def test_what_is_no_success_does_not_count(user, problem, what):
    """NaN, pixels outside the box, the image itself, and a point without its margin."""
    model, images, labels, _exact, best = problem
    spoilt = best.clone()
    if what == "nan":
        spoilt[0, 0, 0, 0] = torch.nan
    elif what == "outside":
        spoilt[0, 0, 0, 0] = 1.01
    elif what == "unchanged":
        spoilt[0] = images[0]
    else:
        spoilt[0] = images[0] + (1 - 1e-4) * (best[0] - images[0])
    result = user(lambda *_: spoilt)(model, images, labels)
    assert result.success.tolist() == [False] + [True] * 19
    assert result.rms[0].isnan() and result.kkt_residual[0].isnan()
    assert torch.equal(result.images[0], images[0])


def in_place(tensor):
    tensor[:] = (tensor + 1) % 10


def changes_labels(network, x, y, targets, **options):
    in_place(y)
    return x


def changes_targets(network, x, y, targets, **options):
    in_place(targets)
    return x


def changes_images(network, x, y, targets, **options):
    return x.mul_(0.5)


def changes_options(network, x, y, targets, *, start, **options):
    start["images"].add_(0.2)
    start["steps"].append(1)
    return start["images"][: len(x)]


@pytest.mark.parametrize(
    "attack", [changes_labels, changes_targets, changes_images, changes_options]
)
def test_attacks_are_given_copies(user, problem, attack):
    """What they write into them changes neither what they are judged by nor the next call."""
    model, images, labels, _, _best = problem
    goals = (labels + 1) % 10
    start = {"images": torch.zeros_like(images), "steps": [0]}
    before = [part.clone() for part in (images, labels, goals)]
    result = user(attack)(model, images, labels, targets=goals, chunk=7, start=start)
    assert all(torch.equal(*pair) for pair in zip(before, (images, labels, goals), strict=True))
    assert start["steps"] == [0] and not start["images"].any()
    answers = model(result.images).argmax(1)
    assert torch.equal(answers[result.success], goals[result.success])
    assert (result.rms[result.success] > 0).all()
    if attack is changes_options:
        calls = user(lambda network, x, y, t, start: start["images"].add_(0.2)[: len(x)], "each")
        one, other = (calls(model, images, labels, start=start) for _ in range(2))
        assert torch.equal(one.images, other.images)


def stateful():
    """A network with all that can be changed: batch statistics, dropout, hooks, plain tensors."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Dropout(0.5))
    network.append(nn.Linear(20, 10))
    network.plain, network.several = torch.ones(3), [torch.ones(2), 1]
    network[1].register_forward_hook(lambda module, inputs, output: output * 1.0)
    return network.eval()


def train(network):
    network.train()
    network.requires_grad_(True)


def train_inside(network):
    network.model[2].train()
    network.model[3].train()
    for _ in range(3):
        network(torch.rand(9, 1, 8, 8))


def optimise(network):
    network.requires_grad_(True)
    step = torch.optim.SGD(network.parameters(), 1.0)
    network(torch.rand(9, 1, 8, 8)).square().sum().backward()
    step.step()


def spoil_weights(network):
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.model.plain.zero_()
    network.model.several[0].zero_()
    network.model.several.append(2)


def exchange(network):
    network.model[1] = nn.Linear(64, 20)
    network.model[4].weight = nn.Parameter(torch.zeros(10, 20))
    network.model[2].running_mean = torch.ones(20)
    network.model[3].p = 1.0
    network.model.append(nn.ReLU())


def resize(network):
    network.model[4].weight.data = torch.zeros(3, 20)
    network.model[4].double()


def hook(network):
    network.model[1].register_forward_hook(lambda module, inputs, output: 0 * output)
    network.model.register_forward_pre_hook(lambda module, inputs: (0 * inputs[0],))
    network.model[4]._forward_hooks.clear()
    network.model.forward = lambda x: torch.zeros(len(x), 10)


def unhook(network):
    network.model[1]._forward_hooks.clear()


CHANGES = [train, train_inside, optimise, spoil_weights, exchange, resize, hook, unhook]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_attacks_change_of_the_model_is_put_back(user, problem, change, raises):
    _, images, _, _, _ = problem
    model = stateful()
    labels = model(images).argmax(1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    layers = list(model.modules())
    answers = model(images).detach()
    other = (1 - images).clone()

    def attack(network, x, y, targets):
        change(network)
        if raises:
            raise ArithmeticError("own")
        return other[: len(x)]

    if raises:
        with pytest.raises(ArithmeticError, match="own"):
            user(attack)(model, images, labels)
    else:
        result = user(attack)(model, images, labels)
        wanted = model(other).argmax(1) != labels
        assert torch.equal(result.success, wanted)
    assert list(model.modules()) == layers
    assert not any(layer.training for layer in layers)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.plain, torch.ones(3)) and model.several[1:] == [1]
    assert torch.equal(model.several[0], torch.ones(2))
    assert torch.equal(model(images), answers)


def test_handles_of_hooks_still_remove_them(user, problem):
    model, images, _, _, _ = problem
    model = nn.Sequential(model)
    handle = model.register_forward_hook(lambda module, inputs, output: 2 * output)
    user(lambda network, x, y, targets: x)(model, images, model(images).argmax(1))
    handle.remove()
    assert not model._forward_hooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, torch.jit.trace])
def test_scripts_are_put_back_too(user, problem, make):
    model, images, labels, _, best = problem
    model = nn.Sequential(model).eval()
    script = make(model) if make is torch.jit.script else make(model, images)
    before = script(images).detach()

    def attack(network, x, y, targets):
        network.train()
        for parameter in network.parameters():
            parameter.data.zero_()
        return best

    assert user(attack)(script, images, labels).success.all()
    assert torch.equal(script(images), before)
    assert not any(module.training for module in script.modules())


def set_everything():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_autocast_enabled("cpu", True)
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    torch.inference_mode().__enter__()


def torch_state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.is_anomaly_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.parametrize("raises", [False, True])
def test_what_attacks_change_of_torch_is_put_back(user, problem, raises):
    model, images, labels, _, best = problem
    before = torch_state()

    def attack(network, x, y, targets):
        set_everything()
        if raises:
            raise ArithmeticError("own")
        return best

    if raises:
        with pytest.raises(ArithmeticError, match="own"):
            user(attack)(model, images, labels)
    else:
        result = user(attack)(model, images, labels)
        assert result.success.all() and result.rms.dtype == torch.float32
    assert torch_state() == before


def test_rounding_outside_the_box_is_clipped(user, problem):
    model, images, labels, _, best = problem
    result = user(lambda *_: best + 5e-7 * (best >= 1))(model, images, labels)
    assert result.success.all()
    assert result.images.max() <= 1


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: x[:3], "must return images of shape"),
        (lambda x: x.numpy(), "must return images of shape"),
        (lambda x: None, "not NoneType"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(user, problem, returned, message):
    model, images, labels, _, _ = problem
    with pytest.raises(AttackError, match=message):
        user(lambda network, x, y, t: returned(x))(model, images, labels)


@pytest.mark.parametrize(
    "draw",
    [
        torch.rand_like,
        lambda x: torch.tensor(np.random.rand(*x.shape)).to(x),
        lambda x: torch.full_like(x, random.random()),
    ],
    ids=["torch", "numpy", "random"],
)
def test_random_attacks_are_the_same_in_every_run(user, problem, draw):
    """Whatever they draw from; the global random states are left alone."""
    model, images, labels, _, _ = problem
    drawn = []

    def attack(network, x, y, t):
        drawn.append(draw(x))
        return drawn[-1]

    attack = user(attack)
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    one, other = (attack(model, images, labels) for _ in range(2))
    assert torch.equal(one.images, other.images) and torch.equal(*drawn)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("no_such_module_here:attack", "cannot be imported"),
        ("math:no_such_function", "has no 'no_such_function'"),
        ("math:pi", "is not a function"),
        ("adv-lib:dnn", "no attack of adv-lib named 'dnn' is offered; known: alma"),
    ],
)
def test_unknown_attacks(method, message):
    with pytest.raises(AttackError, match=message):
        external(method)


def test_unknown_option(user, problem):
    model, images, labels, _, _ = problem
    attack = user(lambda model, images, labels, targets, steps=3: images)
    with pytest.raises(AttackError, match=r"no option 'step'; known: .*steps"):
        attack(model, images, labels, step=3)


@pytest.mark.parametrize("method", ["adv-lib:ddn", "foolbox:L2DeepFoolAttack"])
def test_missing_library_is_answered_with_how_to_install_it(monkeypatch, method):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(AttackError, match=r"is not installed; .*envs/peers\.txt"):
        external(method)


def test_adv_lib_is_told_not_to_round(monkeypatch, problem):
    """DDN of adv-lib rounds to 256 levels unless levels is None; the user's options win."""
    model, images, labels, _, best = problem
    calls = []

    def fake(model, inputs, labels, targeted=False, steps=100, levels=256):
        calls.append((targeted, steps, levels))
        return best

    library = SimpleNamespace(ddn=fake)
    monkeypatch.setattr(module, "_library", lambda package, name: library)
    attack = external("adv-lib:ddn")
    attack(model, images, labels, steps=7)
    attack(model, images, labels, targets=(labels + 1) % 10, levels=16)
    assert calls == [(False, 7, None), (True, 100, 16)]


@pytest.mark.skipif(find_spec("adv_lib") is None, reason="adv-lib is not installed")
@pytest.mark.parametrize("name", ADV_LIB)
def test_adv_lib(name, problem):
    model, images, labels, exact, _ = problem
    options = {"max_iterations": 50} if name == "carlini_wagner_l2" else {}
    result = external(f"adv-lib:{name}")(model, images, labels, **options)
    assert result.images.shape == images.shape
    assert (result.rms.double() >= exact * (1 - 1e-5))[result.success].all()


@pytest.mark.skipif(find_spec("foolbox") is None, reason="foolbox is not installed")
@pytest.mark.parametrize("name", ["DDNAttack", "L2DeepFoolAttack", "L2CarliniWagnerAttack"])
def test_foolbox(name, problem):
    model, images, labels, exact, _ = problem
    options = {"steps": 50} if name != "L2CarliniWagnerAttack" else {"steps": 100}
    result = external(f"foolbox:{name}")(model, images, labels, **options)
    assert result.success.float().mean() > 0.5
    assert (result.rms.double() >= exact * (1 - 1e-5))[result.success].all()


@pytest.mark.skipif(find_spec("foolbox") is None, reason="foolbox is not installed")
def test_foolbox_of_a_fixed_size(problem):
    model, images, labels, _, _ = problem
    result = external("foolbox:L2PGD")(model, images, labels, epsilon=1.5, steps=20)
    assert result.success.any()
    with pytest.raises(AttackError, match="no attack of foolbox named 'LinfPGD'"):
        external("foolbox:LinfPGD")
