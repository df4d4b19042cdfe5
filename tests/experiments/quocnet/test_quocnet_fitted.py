"""Whole models: filters, then a classifier that leaves them alone; and what deceives them."""

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.attacks.methods import method
from blindspots.data.sources.digits import load
from blindspots.evaluation.detection import balanced_accuracy
from blindspots.models.logistic import RIDGES, fit_logistic
from blindspots.models.quocnet import features_digest, quocnet
from blindspots.models.stagewise import fit_stagewise

STAGES = [{"filters": 24, "kernel": 3, "pool": 3, "stride": 1}]
DETECTED = 8


@pytest.fixture(scope="module")
def digits():
    """Images and labels of an eight, as tensors, by base set."""
    data = load()
    return {
        base: (
            torch.from_numpy(data.images[base]).float() / 16,
            torch.from_numpy((data.labels[base] == DETECTED).astype(np.int64)),
        )
        for base in ("train", "test")
    }


@pytest.fixture(scope="module")
def fitted(digits):
    """A network of each sort, and its record."""
    found = {}
    for kind in ("rica", "random", "pixels"):
        stages = [] if kind == "pixels" else STAGES
        network = quocnet(stages, (1, 8, 8), 2)
        sparsities = [1.0] * len(stages)
        found[kind] = network, fit_stagewise(network, *digits["train"], kind, sparsities, 0)
    return found


def scores(network, images):
    logits = network(images)
    return (logits[:, 1] - logits[:, 0]).numpy()


@pytest.mark.parametrize("kind", ["rica", "random", "pixels"])
def test_the_classifier_leaves_the_filters_alone(fitted, kind):
    network, record = fitted[kind]
    assert features_digest(network) == record["features"]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_filters_know_no_labels(digits, fitted):
    """Other labels, the same filters, and another classifier."""
    images, labels = digits["train"]
    network = quocnet(STAGES, (1, 8, 8), 2)
    record = fit_stagewise(network, images, labels.flip(0), "rica", [1.0], 0)
    other, other_record = fitted["rica"]
    assert record["features"] == other_record["features"]
    assert not torch.equal(network[-1].weight, other[-1].weight)


def test_the_seed_makes_the_filters(digits, fitted):
    network = quocnet(STAGES, (1, 8, 8), 2)
    record = fit_stagewise(network, *digits["train"], "rica", [1.0], 1)
    assert record["features"] != fitted["rica"][1]["features"]


@pytest.mark.parametrize(("kind", "least"), [("rica", 0.93), ("random", 0.93), ("pixels", 0.9)])
def test_eights_are_told_from_all_others(digits, fitted, kind, least):
    images, labels = digits["test"]
    found = scores(fitted[kind][0], images)
    assert balanced_accuracy(found, labels.numpy()).mean() >= least


def test_both_directions_succeed_on_every_image(digits, fitted):
    images, labels = digits["test"]
    network = fitted["rica"][0]
    right = network(images).argmax(1) == labels
    few = torch.cat([(right & (labels == label)).nonzero()[:10, 0] for label in (0, 1)])
    result = method("lbfgs")(network, images[few], labels[few], targets=None)
    assert bool(result.success.all())
    answers = network(result.images).argmax(1)
    assert torch.equal(answers, 1 - labels[few])
    assert result.rms.min() > 0
    assert result.rms.max() < 0.2


def test_a_model_goes_on_from_its_filters(digits, fitted):
    """A killed job has the filters of its checkpoint, and ends as one that was left alone."""

    class Kept:
        state = None

        def load(self, stage):
            return self.state

        def save(self, stage, state, force=False):
            self.state = {number: dict(part) for number, part in state().items()}

    kept = Kept()
    fit_stagewise(quocnet(STAGES, (1, 8, 8), 2), *digits["train"], "random", [1.0], 0, kept)
    again = quocnet(STAGES, (1, 8, 8), 2)
    fit_stagewise(again, *digits["train"], "rica", [1.0], 5, kept)  # makes none anew
    assert features_digest(again) == fitted["random"][1]["features"]


# The classifier ----------------------------------------------------------------------------------


def gaussians(rare, many, apart, seed=0):
    """Two classes of unequal size in four dimensions, of which two differ."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.repeat([1, 0], [rare, many])
    features = random.standard_normal((rare + many, 4))
    features[:, :2] += apart * labels[:, None]
    order = random.permutation(len(labels))
    return torch.from_numpy(features[order]).float(), torch.from_numpy(labels[order])


def test_rare_classes_count_as_much():
    """The best threshold of two Gaussians lies half-way, however many images each has."""
    features, labels = gaussians(200, 3800, 2.0)
    layer, _ = fit_logistic(features, labels, 2, 0)
    weight = layer.weight[1] - layer.weight[0]
    bias = layer.bias[1] - layer.bias[0]
    middle = -bias / weight[:2].sum()
    assert middle.item() == pytest.approx(1.0, abs=0.15)
    test, truth = gaussians(2000, 2000, 2.0, seed=1)
    answers = layer(test).argmax(1) == truth
    assert abs(answers[truth == 1].float().mean() - answers[truth == 0].float().mean()) < 0.05


def test_features_of_any_scale_are_fitted():
    features, labels = gaussians(500, 500, 2.0)
    scaled = torch.cat([features * torch.tensor([1e-3, 1e3, 1, 1]), torch.ones(1000, 1)], 1)
    layer, record = fit_logistic(scaled, labels, 2, 0)
    plain, other = fit_logistic(features, labels, 2, 0)
    assert record["ridge"] == other["ridge"]
    torch.testing.assert_close(layer(scaled), plain(features), rtol=1e-3, atol=1e-3)


def test_noise_gets_a_strong_ridge_and_signal_a_weak_one():
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 200, generator=random)
    labels = (torch.rand(300, generator=random) < 0.5).long()
    _, record = fit_logistic(noise, labels, 2, 0)
    assert record["ridge"] >= 1
    assert len(record["held_out"]) < len(RIDGES)
    _, record = fit_logistic(*gaussians(1000, 1000, 3.0), 2, 0)
    assert record["ridge"] <= 0.03


def test_too_few_images_are_refused():
    features = torch.randn(20, 3)
    for labels in (torch.zeros(20).long(), torch.tensor([1] + [0] * 19)):
        with pytest.raises(ValueError, match="too few images"):
            fit_logistic(features, labels, 2, 0)


def test_more_than_two_classes():
    features = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    labels = features.argmax(1)
    layer, _ = fit_logistic(features, labels, 3, 0)
    assert isinstance(layer, nn.Linear)
    assert (layer(features).argmax(1) == labels).float().mean() > 0.95
