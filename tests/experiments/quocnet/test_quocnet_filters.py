"""Filters without labels: patches, whitening and RICA."""

import pytest
import torch

from blindspots.models.filters import (
    KEPT,
    KINDS,
    RIDGE,
    draw_patches,
    make_filters,
    rica,
    rica_cost,
    whitening,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def patches():
    """Correlated numbers in twelve dimensions, of which one is the sum of two others."""
    drawn = torch.randn(3000, 12, generator=generator(), dtype=torch.float64)
    drawn[:, 0] = drawn[:, 1] + drawn[:, 2]
    return drawn @ torch.randn(12, 12, generator=generator(1), dtype=torch.float64) + 3


def test_patches_lie_in_the_maps():
    """Every patch is cut out somewhere; here each cell holds its own place."""
    maps = torch.arange(3 * 2 * 5 * 6.0).view(3, 2, 5, 6)
    found = draw_patches(maps, 3, 400, generator()).view(-1, 2, 3, 3)
    windows = maps.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    corners = {tuple(window.flatten().tolist()) for window in windows}
    assert {tuple(patch.flatten().tolist()) for patch in found} == corners


def test_whitened_patches_are_uncorrelated(patches):
    white = whitening(patches)
    assert len(white.matrix) == 11  # one dimension has no variance
    found = white(patches)
    assert found.mean(0).abs().max() < 1e-9
    covariance = found.T @ found / len(found)
    variances = torch.linalg.eigvalsh((patches - patches.mean(0)).T.cov(correction=0))
    kept = variances[variances > KEPT * variances[-1]]
    wanted = torch.diag(kept / (kept + RIDGE * variances.mean()))
    torch.testing.assert_close(covariance, wanted, rtol=1e-6, atol=1e-6)


def test_rica_without_sparsity_loses_nothing(patches):
    """As many filters as dimensions, or more: whitened patches come back whole."""
    white = whitening(patches)(patches)
    for filters in (11, 15):
        weights = rica(white, filters, 0.0, generator())
        lost = ((white @ weights.T) @ weights - white).square().sum(1).mean()
        assert lost / white.square().sum(1).mean() < 1e-5


def test_rica_lowers_its_cost_and_keeps_what_is_sparse():
    """Independent sparse sources, turned: most filters find one each."""
    sources = torch.randn(4000, 6, generator=generator(), dtype=torch.float64)
    sources = sources * (torch.rand(4000, 6, generator=generator(1)) < 0.1)
    sources /= sources.square().mean(0).sqrt()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator(2), dtype=torch.float64))[0]
    white = sources @ turn.T
    weights = rica(white, 6, 0.5, generator(3))
    start = torch.randn(6, 6, generator=generator(3)).double()
    start /= start.norm(dim=1, keepdim=True)
    assert rica_cost(weights, white, 0.5) < 0.9 * rica_cost(start, white, 0.5)
    found = (weights / weights.norm(dim=1, keepdim=True) @ turn).abs()
    assert found.amax(1).min() > 0.98
    assert sorted(found.argmax(1).tolist()) == list(range(6))


@pytest.mark.parametrize("kind", KINDS)
def test_filters_answer_alike_and_to_no_mean(kind, patches):
    weight, bias = make_filters(kind, patches, 5, 1.0, generator())
    answers = patches @ weight.T + bias
    assert answers.mean(0).abs().max() < 1e-9
    torch.testing.assert_close(answers.square().mean(0), torch.ones(5).double())


@pytest.mark.parametrize("kind", KINDS)
def test_filters_follow_from_the_seed(kind, patches):
    one, same, other = (make_filters(kind, patches, 5, 1.0, generator(s))[0] for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
