"""Torchvision can be imported whether or not its compiled extension loads."""

import os
import subprocess
import sys

import pytest

from blindspots.data import torchvision_datasets

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
NETWORKS = """
import torchvision
from torch import nn
from torchvision.models import resnet18

def small(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))

def towards_grey(model, images, labels, targets):
    return images
"""
# What uses a user's module that imports torchvision, in a process in which nobody else has.
USES = {
    "network": "from blindspots.models.networks import build_network\n"
    "build_network({'kind': 'own_torchvision:small'}, (3, 2, 2), 10, seed=0)",
    "attack": "from blindspots.attacks.external import call_of\n"
    "call_of('own_torchvision:towards_grey')",
}


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


@pytest.mark.parametrize("use", USES)
def test_modules_of_users_may_import_torchvision(tmp_path, use):
    (tmp_path / "own_torchvision.py").write_text(NETWORKS)
    code = f"{USES[use]}\nimport sys; print(sys.modules['torchvision'].__spec__.origin)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("__init__.py")


def test_who_does_not_import_torchvision_does_not_pay_for_it(tmp_path):
    (tmp_path / "own_plain.py").write_text("VALUE = 1\n")
    code = (
        "import sys\n"
        "from blindspots.torchvision_import import import_with_torchvision\n"
        "assert import_with_torchvision('own_plain').VALUE == 1\n"
        "print({'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "set()", done.stderr
