"""The rules that choose target labels."""

import numpy as np
import pytest
import torch

from blindspots.attacks.targets import RULES, choose_targets

CLASSES = 10


def chosen(rule, labels, indices, logits=None, seed=0, base="test", given=None):
    logits = torch.zeros(len(labels), CLASSES) if logits is None else logits
    return choose_targets(rule, logits, labels, indices, seed=seed, base=base, given=given)


def test_random_targets_are_wrong_and_uniform():
    """No label is its own target; every other one is met equally often (chi-square)."""
    labels = torch.full((9000,), 3)
    targets = chosen("random", labels, np.arange(9000))
    counts = np.bincount(targets.numpy(), minlength=CLASSES)
    assert counts[3] == 0
    others = np.delete(counts, 3)
    assert ((others - 1000) ** 2 / 1000).sum() < 26.1  # 99.9 % point, 8 degrees of freedom


def test_random_targets_belong_to_the_image():
    """Neither the other images of the pool nor their order matter."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, CLASSES, 1000))
    whole = chosen("random", labels, np.arange(1000))
    subset = np.random.default_rng(1).permutation(1000)[:300]
    assert torch.equal(chosen("random", labels[subset], subset), whole[subset])


@pytest.mark.parametrize("change", [{"seed": 1}, {"base": "train"}])
def test_random_targets_differ_between_streams(change):
    labels, indices = torch.zeros(500, dtype=torch.int64), np.arange(500)
    agree = chosen("random", labels, indices) == chosen("random", labels, indices, **change)
    assert agree.float().mean() < 0.2


def test_runner_up_is_the_largest_wrong_logit():
    logits = torch.tensor([[5.0, 1.0, 4.0], [5.0, 1.0, 4.0], [0.0, 2.0, 2.5]])
    labels = torch.tensor([0, 1, 2])
    assert chosen("runner_up", labels, np.arange(3), logits).tolist() == [2, 0, 1]


def test_given_targets_go_by_label():
    given = [(label + 1) % CLASSES for label in range(CLASSES)]
    labels = torch.tensor([9, 0, 4])
    targets = chosen("given", labels, np.arange(3), given=given)
    assert targets.tolist() == [0, 1, 5] and targets.dtype == torch.int64


@pytest.mark.parametrize(("rule", "wanted"), [("nearest", "nearest"), ("untargeted", None)])
def test_rules_that_leave_the_choice_to_the_attack(rule, wanted):
    assert chosen(rule, torch.zeros(2, dtype=torch.int64), np.arange(2)) == wanted


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("given", None),
        ("given", [1, 0]),
        ("given", list(range(CLASSES))),
        ("given", [*range(1, CLASSES), CLASSES]),
        ("given", [-1] * CLASSES),
        ("farthest", None),
    ],
)
def test_mistakes_raise(rule, given):
    with pytest.raises(ValueError):
        chosen(rule, torch.zeros(2, dtype=torch.int64), np.arange(2), given=given)


def test_unknown_rule_is_told_the_known_ones():
    with pytest.raises(ValueError) as caught:
        chosen("farthest", torch.zeros(1, dtype=torch.int64), np.arange(1))
    assert all(rule in str(caught.value) for rule in RULES)
