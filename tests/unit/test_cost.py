"""How long something will take is said before it begins."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from blindspots.attacks.best_of import MEMBERS, MEMBERS_FOR_MANY_CLASSES
from blindspots.attacks.cost import PIXELS, gradients_of, seconds_of
from blindspots.attacks.ddn import ddn
from blindspots.attacks.engines import ENGINES
from blindspots.attacks.lbfgs import lbfgs
from blindspots.models.timing import LEAST, MOST, NUMBERS, Speed, speed_of
from blindspots.progress import WORTH_A_LINE, foretell


def at(seconds, classes=10):
    """Return what stands for the measurement of a network of this speed."""
    return lambda network, images, gradient: Speed(seconds, 0.0, classes, looks=96)


def attack(method="ddn", **options):
    return {"method": method, "options": options}


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        (lbfgs, {}),
        (lbfgs, {"start_steps": 0, "evaluations": 30, "cut_steps": 50}),
        (ddn, {}),
        (ddn, {"steps": 50, "polish_steps": 10, "cut_steps": 50}),
    ],
)
@pytest.mark.parametrize("kind", ["softmax", "mlp", "conv"])
def test_engines_take_about_as_many_gradients_as_foretold(request, digits, engine, options, kind):
    """Within a factor of two and a half: networks without kinks need no cutting planes."""
    images, labels = (part[:40] for part in digits)
    if kind == "conv":  # kinks everywhere, untrained
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, 30), nn.ReLU(), nn.Linear(30, 10)),
        )
        labels = network(images).argmax(1)
    else:
        network = request.getfixturevalue(kind)
    found = engine(network, images, labels, targets=(labels + 3) % 10, **options)
    spent = found.evaluations.float().mean().item()
    ratio = gradients_of(engine.__name__, options, 10) / spent
    assert 0.4 < ratio < 2.5


def test_every_engine_of_the_package_is_known():
    assert ENGINES.keys() == PIXELS.keys()


def test_more_classes_take_longer_starts():
    few, many = (gradients_of("lbfgs", {}, classes) for classes in (10, 1000))
    assert many - few == 185


def test_seconds_grow_with_images_targets_and_members():
    images = torch.rand(32, 1, 2, 2)
    one = seconds_of(None, images[:16], None, attack(), 1000, at(0.1))
    assert one == pytest.approx(16 * 103 * 0.1 + 3.2)
    two = seconds_of(None, images, None, attack(), 16, at(0.1))
    assert two == pytest.approx(2 * one)  # each chunk looks at the network anew
    nearest = seconds_of(None, images[:16], "nearest", attack(), 1000, at(0.1, 1000))
    assert nearest == pytest.approx(999 * 16 * 103 * 0.1 + 3.2)
    members = [{"method": "ddn"}, {"method": "ddn", "options": {"steps": 197}}]
    both = seconds_of(None, images[:16], None, attack("best_of", members=members), 1000, at(0.1))
    assert both == pytest.approx(16 * 303 * 0.1 + 6.4)
    assert seconds_of(
        None, images[:16], None, attack("best_of", members=members[:1]), 1000, at(0.1)
    ) == (pytest.approx(one))


@pytest.mark.parametrize(("classes", "members"), [(10, MEMBERS), (1000, MEMBERS_FOR_MANY_CLASSES)])
def test_best_of_has_the_members_of_its_classes(classes, members):
    images = torch.rand(4, 1, 2, 2)
    given = attack("best_of", members=list(members))
    wanted = seconds_of(None, images, None, given, 1000, at(0.1, classes))
    assert seconds_of(None, images, None, attack("best_of"), 1000, at(0.1, classes)) == wanted


@pytest.mark.parametrize(
    "entry",
    [
        attack("adv-lib:fmn"),
        attack("my:attack"),
        attack("best_of", members=[{"method": "ddn"}, {"method": "foolbox:L2PGD"}]),
    ],
)
def test_of_attacks_of_others_nothing_is_foretold(entry):
    assert seconds_of(None, torch.rand(4, 1, 2, 2), None, entry, 1000, at(0.1)) is None


def test_nothing_is_foretold_of_no_images_or_a_network_that_fails():
    assert seconds_of(None, torch.rand(0, 1, 2, 2), None, attack(), 1000, at(0.1)) is None
    network = nn.Linear(7, 2)  # of other images
    assert speed_of(network, torch.rand(4, 3, 2, 2), gradient=True) is None
    assert seconds_of(network, torch.rand(4, 3, 2, 2), None, attack(), 1000) is None


@pytest.mark.parametrize(
    ("shape", "few"), [((1, 8, 8), MOST), ((3, 32, 32), 42), ((3, 224, 224), 1)]
)
@pytest.mark.parametrize("gradient", [True, False])
def test_speed_is_measured_on_few_images(shape, few, gradient):
    """Not the first time; a single image several times. Network and torch are left as they were."""
    seen, ticks = [], iter([10.0, 14.0, 20.0, 21.0])
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(math.prod(shape), 5)).train()
    network.register_forward_hook(
        lambda module, inputs, output: seen.append((len(output), module.training))
    )
    state = torch.get_rng_state()
    found = speed_of(network, torch.rand(200, *shape), gradient, lambda: next(ticks))
    times = LEAST if few == 1 else 1
    assert seen == [(few, False)] * (1 + times) and few * math.prod(shape) <= max(
        NUMBERS, math.prod(shape)
    )
    assert found == (4 / few / times, 1 / few / times, 5, 12 * (2 if shape[1] > 100 else 8))
    assert network.training and all(p.grad is None for p in network.parameters())
    torch.rand(200, *shape)  # what the test itself drew
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    torch.rand(200, *shape), torch.rand(200, *shape)
    assert torch.equal(after, torch.get_rng_state())


def test_what_takes_long_is_announced(caplog):
    with caplog.at_level(logging.INFO, logger="blindspots.progress"):
        foretell(2100, "128 images")
        foretell(WORTH_A_LINE - 1, "8 images")
        foretell(None, "8 images")
    assert caplog.messages == ["about 35 min for 128 images"]


def test_a_set_foretells_its_time_and_is_the_same(monkeypatch, digits, softmax, caplog):
    """Of the images that are left, where some are there from a checkpoint."""
    from blindspots.steps import attacking as step

    images, labels = (part[:20] for part in digits)
    targets = (labels + 3) % 10
    entry = attack(steps=5)
    kept = {}

    def attacked(part=None):
        stages = {} if part is None else {"attack": part}
        checkpoint = SimpleNamespace(
            load=stages.get, save=lambda stage, state: kept.setdefault("half", state())
        )
        return step.attack_all(softmax, images, labels, targets, entry, 10, checkpoint)

    whole = attacked()
    monkeypatch.setattr(step, "seconds_of", lambda network, left, *_: 60.0 * len(left))
    with caplog.at_level(logging.INFO, logger="blindspots.progress"):
        again, rest = attacked(), attacked(kept["half"])
    assert caplog.messages == [
        "about 20 min for 20 images, 10 at a time",
        "about 10 min for 10 images, 10 at a time",
    ]
    for name, tensor in whole.items():
        for other in (again, rest):
            assert torch.equal(tensor.nan_to_num(-1), other[name].nan_to_num(-1))
