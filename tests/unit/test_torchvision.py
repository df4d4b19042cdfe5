"""Torchvision can be imported whether or not its compiled extension loads."""

import pytest

from blindspots.data import torchvision_datasets


@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST", "KMNIST"])
def test_data_sets_are_there(kind):
    assert issubclass(
        getattr(torchvision_datasets.DATASETS, kind), torchvision_datasets.DATASETS.MNIST
    )


def test_download_passes_on_what_torchvision_needs(monkeypatch, tmp_path):
    """The class of that name is made with the root and asked to download."""
    asked = []

    class Recorder:
        def __init__(self, root, **options):
            asked.append((root, options["download"]))

    monkeypatch.setattr(torchvision_datasets.DATASETS, "KMNIST", Recorder)
    torchvision_datasets.download("KMNIST", tmp_path)
    assert asked == [(tmp_path, True)]
