"""Images computed together: what bounds the memory, whatever their size."""

import json

import pytest
import torch

from blindspots.attacks.chunks import VECTORS, WORKING_BYTES, _share_of_a_batch
from blindspots.chunk import chunk_for, chunk_of
from blindspots.models.admission import admit
from blindspots.models.state import frozen
from blindspots.study.study import Study


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((1, 8, 8), 1000),
        ((1, 28, 28), 1000),
        ((3, 20, 30), 1000),
        ((3, 32, 32), 1000),
        ((3, 33, 32), 512),
        ((3, 64, 64), 128),
        ((3, 224, 224), 16),
        ((3, 227, 227), 16),
        ((3, 299, 299), 8),
        ((3, 1024, 1024), 1),
        ((3, 10000, 10000), 1),
    ],
)
def test_larger_images_are_fewer(shape, chunk):
    assert chunk_for(shape) == chunk


def test_a_gpu_takes_64_times_as_many():
    assert [chunk_for(shape, "cuda") for shape in ((1, 8, 8), (3, 224, 224))] == [64000, 1024]


def test_a_chunk_follows_the_images_unless_it_is_given():
    images = torch.zeros(2, 3, 64, 64)
    assert chunk_of("auto", images) == 128
    assert chunk_of("auto", images.to("meta")) == 128  # of no known device
    assert chunk_of(7, images) == 7


@pytest.mark.parametrize(("given", "chunk"), [(None, "auto"), ("auto", "auto"), (7, 7)])
def test_the_chunk_of_a_study_is_recorded(config, schema, reference, given, chunk):
    assert "chunk" not in config
    config |= {} if given is None else {"chunk": given}
    study = Study(config, schema, reference, [])
    assert study.config["chunk"] == chunk
    specs = [json.loads(job.spec) for job in study.jobs]
    assert {spec["chunk"] for spec in specs if "chunk" in spec} == {chunk}


def of_function(shape):
    """Return the share of a batch of images for a function, whose layers nobody sees."""
    weight = torch.rand(4, shape[0])

    def network(images):
        return images.mean((2, 3)) @ weight.T

    images = torch.rand(2, *shape)
    with frozen(network):
        return _share_of_a_batch(admit(network, images, gradients=True), images)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_a_thousand_small_images_are_attacked_together(shape):
    """What is attacked together settles the bits, and is what it has always been."""
    assert 1000 * of_function(shape) <= 1


def test_large_images_are_attacked_in_batches_that_fit():
    share = of_function((3, 224, 224))
    most = WORKING_BYTES / (VECTORS * 3 * 224 * 224 * 4)
    assert most / 2 <= 1 / share <= most
