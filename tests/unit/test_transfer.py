"""Cells of the transfer table."""

import numpy as np
import pytest
import torch

from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.transfer import (
    Context,
    answers_of_all,
    fooled_images,
    perturb,
    transfer_counts,
    variant_name,
)
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.models.networks import build_network

# One column for each image: what is true of it is said in the last line.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SOURCE = np.array([2, 2, 3, 2, 0, 0, 1, 2])
TARGETS = np.array([2, 2, 3, 2, 0, 0, 2, 2])
VICTIM = np.array([2, 0, 2, 2, 0, 2, 0, 1])
SUCCESS = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool)
BOTH_RIGHT = np.array([1, 1, 1, 0, 1, 0, 1, 1], bool)
# fooled the same way, not, another way, the same way, the same way, another way, failed, not


def test_every_count_of_a_small_example():
    """A failed attack counts as attacked and never as fooled, whatever the victim says."""
    counts = transfer_counts(
        VICTIM, LABELS, BOTH_RIGHT, source=SOURCE, targets=TARGETS, success=SUCCESS
    )
    low, high = wilson_interval(5, 8)
    assert counts == {
        "n_attacked": 8,
        "n_failed": 1,
        "n_fooled": 5,
        "n_both_right": 6,
        "n_fooled_both_right": 3,
        "same_wrong": 3,
        "other_wrong": 2,
        "target_hit": 3,
        "error": 5 / 8,
        "low": low,
        "high": high,
    }


def test_which_images_are_fooled():
    """The bits behind the counts: a failed attack is never one of them."""
    fooled = fooled_images(VICTIM, LABELS, SUCCESS)
    assert fooled.tolist() == [True, False, True, True, True, True, False, False]
    assert fooled_images(VICTIM, LABELS).sum() == 6


def test_target_hit_is_not_same_wrong():
    """An amplified perturbation may take the source past its target."""
    counts = transfer_counts(
        np.array([2, 3]),
        np.array([0, 0]),
        np.array([True, True]),
        source=np.array([3, 3]),
        targets=np.array([2, 2]),
        success=np.array([True, True]),
    )
    assert (counts["same_wrong"], counts["other_wrong"], counts["target_hit"]) == (1, 1, 1)


def test_noise_has_neither_source_nor_target():
    counts = transfer_counts(VICTIM, LABELS, BOTH_RIGHT)
    assert counts["n_failed"] == 0 and counts["n_fooled"] == 6
    assert counts["same_wrong"] is counts["other_wrong"] is counts["target_hit"] is None


def test_source_is_its_own_victim():
    """As found, a source is fooled by every success, always into its own mistake."""
    counts = transfer_counts(
        SOURCE, LABELS, np.ones(8, bool), source=SOURCE, targets=TARGETS, success=SUCCESS
    )
    assert counts["n_fooled"] == counts["same_wrong"] == counts["target_hit"] == 7


def test_no_image_gives_no_rate():
    none = np.zeros(0, np.int64)
    counts = transfer_counts(none, none, np.zeros(0, bool))
    assert counts["n_attacked"] == 0
    assert counts["error"] is counts["low"] is counts["high"] is None


def test_counts_are_columns_of_the_tidy_table():
    counts = transfer_counts(VICTIM, LABELS, BOTH_RIGHT)
    assert set(counts) < set(FIELDS)


def test_counts_can_be_written_as_json():
    """No NumPy scalar among them."""
    counts = transfer_counts(
        VICTIM, LABELS, BOTH_RIGHT, source=SOURCE, targets=TARGETS, success=SUCCESS
    )
    assert {type(value) for value in counts.values()} <= {int, float}


CONTEXT = Context(np.arange(40), ("test", 0), 40)


@pytest.fixture
def originals():
    return torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def adversarial(originals):
    noise = torch.randn(originals.shape, generator=torch.Generator().manual_seed(1))
    return (originals + 0.05 * noise).clamp(0, 1)


@pytest.mark.parametrize("kind", ["as_found", "clean"])
def test_variants_that_change_nothing(originals, adversarial, kind):
    wanted = {"as_found": adversarial, "clean": originals}[kind]
    found = perturb({"kind": kind}, originals, adversarial, CONTEXT)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ["amplified", "gaussian"])
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_levels_and_clipping(originals, adversarial, kind, level):
    """A variant has its RMS and may leave the box; its clipped form is that, clipped."""
    variant = {"kind": kind, "level": level}
    free = perturb(variant, originals, adversarial, CONTEXT)
    clipped = perturb({**variant, "clip": True}, originals, adversarial, CONTEXT)
    rms = (free - originals).square().mean().sqrt().item()
    assert rms == pytest.approx(level, rel=1e-4 if kind == "amplified" else 0.1)
    assert free.min() < 0 and free.max() > 1
    assert torch.equal(clipped, free.clamp(0, 1))


def test_unknown_variant_raises(originals, adversarial):
    with pytest.raises(ModuleNotFoundError):
        perturb(
            {"kind": "rotated", "level": 1.0},
            originals,
            adversarial,
            CONTEXT,
        )


def test_clipped_variants_have_names_of_their_own():
    """One for each level, since their RMS is what the clipping left."""
    variants = [{"kind": "amplified", "level": level} for level in (0.1, 0.15)]
    variants += [{**variant, "clip": True} for variant in variants]
    names = [variant_name(variant) for variant in variants]
    assert names[:2] == ["amplified", "amplified"]
    assert len(set(names)) == 3


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["as_found", "amplified", "gaussian", "clean"])
def test_answers_do_not_depend_on_the_chunk(originals, adversarial, kind, chunk):
    """Answers and RMS of each image, for every network."""
    variant = {"kind": kind, "level": 0.2}
    networks = {n: build_network({"kind": "softmax"}, (1, 4, 4), 5, seed=ord(n)) for n in "ab"}
    indices = np.arange(40)[::-1] * 31
    context = Context(indices, ("test", 0), chunk)
    answers, rms = answers_of_all(networks, variant, originals, adversarial, context)
    images = perturb(variant, originals, adversarial, context)
    for name, network in networks.items():
        assert np.array_equal(answers[name], network(images).argmax(1).numpy())
    wanted = (images - originals).flatten(1).square().mean(1).sqrt()
    np.testing.assert_allclose(rms, wanted.numpy(), rtol=1e-5)
