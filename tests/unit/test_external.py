"""Attacks of other libraries and of users: found, called, and not taken on trust."""

import random
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

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
