"""Several attacks, and of each image the smallest success."""

import pytest
import torch

from blindspots.attacks.best_of import MEMBERS, best_of
from blindspots.attacks.engines import engine

FEW = (
    {"method": "ddn", "options": {"steps": 15}},
    {"method": "lbfgs", "options": {"start_steps": 0, "evaluations": 6, "polish_steps": 1}},
)


@pytest.fixture(scope="module")
def case(mlp, digits):
    images, labels = digits
    with torch.no_grad():
        right = mlp(images).argmax(1) == labels
    images, labels = images[right][:40], labels[right][:40]
    return mlp, images, labels, (labels + 1 + torch.arange(40) % 9) % 10


@pytest.mark.parametrize("targets", ["given", None, "nearest"])
def test_smallest_success_of_each_image(case, targets):
    network, images, labels, given = case
    goal = given if targets == "given" else targets
    found = best_of(network, images, labels, targets=goal, members=FEW)
    alone = [
        engine(m["method"])(network, images, labels, targets=goal, **m["options"]) for m in FEW
    ]
    distances = torch.stack([result.rms.nan_to_num(torch.inf) for result in alone])
    smallest, winner = distances.min(0)
    assert torch.equal(found.rms, torch.where(smallest.isfinite(), smallest, torch.nan))
    assert torch.equal(found.winners, torch.where(smallest.isfinite(), winner, -1))
    assert torch.equal(found.evaluations, sum(result.evaluations for result in alone))
    for row, number in enumerate(found.winners.tolist()):
        if number >= 0:
            assert torch.equal(found.images[row], alone[number].images[row])
            assert torch.equal(found.kkt_residual[row], alone[number].kkt_residual[row])
            assert found.targets[row] == alone[number].targets[row]


def test_shares_tell_who_won(case):
    network, images, labels, targets = case
    found = best_of(network, images, labels, targets=targets, members=FEW)
    shares = found.shares(FEW)
    assert sum(shares) == pytest.approx(found.success.float().mean().item())
    assert shares[0] == pytest.approx((found.winners == 0).float().mean().item())


def test_failures_of_one_member_are_made_up_for(case):
    """A single step of DDN finds nothing; what the other member finds counts."""
    network, images, labels, targets = case
    members = ({"method": "ddn", "options": {"steps": 1}}, {"method": "lbfgs"})
    found = best_of(network, images, labels, targets=targets, members=members)
    assert found.success.all()
    assert (found.winners == 1).all()


def test_default_members_are_no_worse_than_each(case):
    network, images, labels, targets = case
    found = best_of(network, images, labels, targets=targets)
    for member in MEMBERS:
        options = member["options"]
        alone = engine(member["method"])(network, images, labels, targets=targets, **options)
        assert (found.rms <= alone.rms.nan_to_num(torch.inf)).all()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one member"),
        ([{"method": "lbgfs"}], "unknown method 'lbgfs'"),
        ([{"method": "best_of"}], "unknown method 'best_of'"),
        ([{"method": "ddn", "options": {"steps": 0}}], "steps"),
    ],
)
def test_bad_members(case, members, message):
    network, images, labels, targets = case
    with pytest.raises(ValueError, match=message):
        best_of(network, images[:2], labels[:2], targets=targets[:2], members=members)
