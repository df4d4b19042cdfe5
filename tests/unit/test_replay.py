"""What is recorded on a GPU: the same answers, few operations, no waiting. No GPU is needed.

A stand-in for the recording does what it holds when it is replayed, and counts that as one.
"""

import collections

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blindspots.attacks import objective, polish
from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.models import minimize, training
from blindspots.models.networks import build_network
from blindspots.optim import replay
from blindspots.optim.replay import Replayed, anywhere, put_rows, repeat

# Operations by which a host learns a number from a GPU, and has to wait for it.
WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.masked_select")
VIEWS = ("aten.t.", "aten.view.", "aten.detach.", "aten.expand.", "aten.select.", "aten.unbind.")


class Count(TorchDispatchMode):
    """Counts operations that reach the dispatcher, but for views, which are not launched."""

    def __init__(self):
        super().__init__()
        self.counts, self.waits, self.paused = collections.Counter(), [], False

    def __torch_dispatch__(self, fun, types, args=(), kwargs=None):
        name = str(fun)
        if not self.paused and not name.startswith(VIEWS):
            self.counts[name] += 1
            if name.startswith(WAITING):
                self.waits.append(name)
        return fun(*args, **(kwargs or {}))

    @property
    def total(self):
        return sum(self.counts.values())


@pytest.fixture
def gpu(monkeypatch):
    """Have all tensors count as a GPU's; return how often recordings were replayed."""
    count, replays = Count(), []

    class Recorded:
        def __init__(self, fun):
            self.fun = fun

        def replay(self):
            replays.append(self.fun)
            count.paused, before = True, count.paused
            self.fun()
            count.paused = before

    def recording(fun, device):
        return Recorded(fun), None

    for module in (replay, objective, polish):
        monkeypatch.setattr(module, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(replay, "recording", recording)
    monkeypatch.setattr(replay, "watched", lambda fun: (fun(), False))
    count.replays = replays
    return count


@pytest.fixture(scope="module")
def case(mlp, digits):
    images, labels = digits
    with torch.no_grad():
        right = mlp(images).argmax(1) == labels
    images, labels = images[right][:100], labels[right][:100]
    return mlp, images, labels, (labels + 1 + torch.arange(100) % 9) % 10


def test_a_repeated_function_is_applied_so_often(gpu):
    def body(x, count):
        return x.mul_(2), count + 1

    for times in (0, 3, 20):
        x, count = repeat(body, (torch.ones(3), torch.zeros(1)), times)
        assert x.tolist() == [2.0**times] * 3 and count.item() == times
    assert len(gpu.replays) == 19  # the first time is an ordinary one, and so are three


def test_what_cannot_be_recorded_is_done_all_the_same(gpu, monkeypatch):
    monkeypatch.setattr(replay, "recording", lambda fun, device: None)
    (x,) = repeat(lambda x: (x + 1,), (torch.zeros(2),), 10)
    fun = Replayed(lambda x: (2 * x,))
    assert x.tolist() == [10, 10]
    assert [fun(torch.tensor([k])) for k in (1.0, 2.0, 3.0)] == [(2.0,), (4.0,), (6.0,)]
    monkeypatch.setattr(replay, "recording", pytest.fail)
    monkeypatch.setattr(replay, "watched", lambda fun: (fun(), True))
    repeat(lambda x: (x + 1,), (torch.zeros(2),), 10)  # it waits: nobody tries to record it
    again = Replayed(lambda x: (2 * x,))
    assert [again(torch.tensor([k])) for k in (1.0, 2.0, 3.0)] == [(2.0,), (4.0,), (6.0,)]


def test_a_replayed_function_gives_fresh_answers(gpu, monkeypatch):
    held = {}

    def recording(fun, device):
        held["outputs"] = fun()

        class Recorded:
            def replay(self):
                for old, new in zip(held["outputs"], fun(), strict=True):
                    old.copy_(new)

        return Recorded(), held["outputs"]

    monkeypatch.setattr(replay, "recording", recording)
    fun = Replayed(lambda x, y: (x + y, x * y))
    given = [(torch.tensor([k]), torch.tensor([2.0])) for k in (1.0, 3.0, 5.0, 7.0)]
    found = [fun(*pair) for pair in given]
    assert [(a.item(), b.item()) for a, b in found] == [(3, 2), (5, 6), (7, 10), (9, 14)]


def test_on_a_cpu_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr(replay, "recording", pytest.fail)
    assert repeat(lambda x: (x + 1,), (torch.zeros(1),), 50)[0].item() == 50
    fun = Replayed(lambda x: (x + 1,))
    assert [fun(torch.tensor([k]))[0].item() for k in (1.0, 2.0, 3.0)] == [2, 3, 4]
    assert anywhere(torch.tensor([False, True])) and not anywhere(torch.tensor([False]))


@pytest.mark.parametrize("there", [False, True])
def test_rows_are_put_over_others(there, monkeypatch):
    monkeypatch.setattr(replay, "on_gpu", lambda tensor: there)
    kept = torch.zeros(3, 2)
    put_rows(
        kept, torch.tensor([True, False, True]), torch.tensor([[1.0], [torch.nan], [3]]) + kept
    )
    assert kept.tolist() == [[1, 1], [0, 0], [3, 3]]


@pytest.mark.parametrize("attack", [ddn, lbfgs])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_answers_are_those_of_a_cpu(case, attack, targeted, request):
    network, images, labels, targets = case
    goal = targets if targeted else None
    here = attack(network, images, labels, targets=goal)
    request.getfixturevalue("gpu")
    there = attack(network, images, labels, targets=goal)
    assert torch.equal(here.success, there.success)
    torch.testing.assert_close(here.rms, there.rms, rtol=1e-3, atol=0)
    assert there.rms.mean().item() == pytest.approx(here.rms.mean().item(), rel=1e-4)


def test_a_network_without_gradients_is_seen_to_after_all(request):
    """A network that is flat where an image is: noted, and done again with care."""
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

    def network(images):
        flat = images.flatten(1)
        logits = flat @ weight
        return torch.where(flat.mean(1, keepdim=True) > 0.5, logits.detach(), logits)

    images = torch.full((4, 1, 8, 8), 0.505)
    images[2:] = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) / 2
    labels = network(images).argmax(1)
    here = ddn(network, images, labels)
    request.getfixturevalue("gpu")
    there = ddn(network, images, labels)
    assert torch.equal(here.success, there.success)
    torch.testing.assert_close(here.rms, there.rms, equal_nan=True)


def test_operations_and_waits_of_an_attack(gpu, case):
    """A hundred steps of DDN took 9,900 operations and 300 waits."""
    network, images, labels, targets = case
    with gpu:
        ddn(network, images, labels, targets=targets)
    assert gpu.total < 2000 and len(gpu.replays) == 98
    waits = len(gpu.waits)
    gpu.counts.clear()
    gpu.waits.clear()
    with gpu:
        ddn(network, images, labels, targets=targets, steps=300)
    assert len(gpu.waits) == waits  # none of them inside the loop
    assert gpu.total < 2000
    gpu.waits.clear()
    with gpu:
        lbfgs(network, images, labels, targets=targets)
    # After the search, and after each kind of walk.
    assert len(gpu.waits) <= waits + 4


def test_operations_of_training(gpu, digits):
    """An evaluation takes at most 60 operations besides those of the network."""
    images, labels = digits
    network = build_network(
        {"kind": "mlp", "widths": [20, 20], "activation": "sigmoid"}, (1, 8, 8), 10, 0
    )
    found = []

    class Counted(Replayed):
        def __call__(self, *tensors):
            with Count() as count:
                result = self.fun(*tensors)
            found.append(count.total)
            return result

    own = Count()
    with own:
        for parameter in network.parameters():
            parameter.grad = None
        total = nn.functional.cross_entropy(network(images), labels, reduction="sum")
        (total / len(images)).backward()
    settings = {"optimizer": "lbfgs", "preconditioner": "kronecker", "max_evaluations": 150}
    settings |= {"history": 10, "tolerance": 1e-9, "weight_decay": [1e-4]}
    settings |= {"weight_decay_convention": "half_l2"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minimize, "Replayed", Counted)
        whole = Count()
        with whole:
            record = training.train_classifier(network, images, labels, settings, 0)
    assert record["evaluations"] > 100
    evaluation = max(found[-50:])
    assert evaluation - own.total < 60
