"""Weights that torchvision publishes: planned without them, fetched, checked, normalised."""

import hashlib
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from blindspots.errors import UserError
from blindspots.models import torchvision_models
from blindspots.models.makers import weights as maker
from blindspots.models.published_files import fetched
from blindspots.models.torchvision_models import Published, published_weights
from blindspots.seeding import seeded
from blindspots.steps.weights import load_network
from blindspots.study.study import Study

SHAPE = (3, 64, 64)
NORMALIZE = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture(scope="module")
def network():
    """A SqueezeNet of ten classes whose weights are drawn."""
    with seeded(1):
        return torchvision_models.torchvision_network("squeezenet1_0", 10).eval()


@pytest.fixture
def published(network, tmp_path, monkeypatch):
    """Weights of that network, published: their address."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    torch.save(network.state_dict(), folder / "weights.pth")
    digits = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    path = (folder / "weights.pth").rename(folder / f"squeezenet1_0-{digits}.pth")
    found = Published(path.as_uri(), 10, NORMALIZE)
    monkeypatch.setattr(torchvision_models, "published_weights", lambda name, weights: found)
    return path


def made(tmp_path, classes=10, download="1"):
    """Run the step that makes the model, and return the path of the model."""
    spec = {
        "maker": "weights",
        "architecture": {"kind": "torchvision:squeezenet1_0"},
        "shape": list(SHAPE),
        "classes": classes,
        "weights": "torchvision:IMAGENET1K_V1",
    }
    options = {"file": str(tmp_path / "root/checkpoints"), "download": download}
    job = SimpleNamespace(
        spec=spec, options=options, provenance=lambda **about: {"job": "0" * 64, **about}
    )
    files = SimpleNamespace(model=tmp_path / "model.safetensors")
    maker.main(job, files)
    return files.model


def test_the_network_answers_to_normalised_images(published, network, tmp_path):
    read, about = load_network(made(tmp_path), "0" * 64, torch.device("cpu"))
    assert about["network"]["architecture"]["normalize"] == NORMALIZE
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(NORMALIZE[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(read(images), network((images - mean) / std))


def test_what_is_there_is_not_fetched_again(published, tmp_path):
    first = made(tmp_path).read_bytes()
    published.unlink()
    assert made(tmp_path, download="0").read_bytes() == first


def test_what_may_not_or_cannot_be_fetched_is_told(published, tmp_path):
    with pytest.raises(UserError, match=r"is missing, and download is false; put there"):
        made(tmp_path, download="0")
    published.unlink()
    with pytest.raises(UserError, match=r"cannot be fetched .*put the file at .*checkpoints"):
        made(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_damaged_files_are_refused(published, tmp_path):
    path = fetched(published.as_uri(), tmp_path / "root/checkpoints", True)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged: its name is not that of its content"):
        made(tmp_path)


def test_other_content_than_published_is_not_kept(published, tmp_path):
    published.write_bytes(b"another")
    with pytest.raises(UserError, match="cannot be fetched"):
        made(tmp_path)
    assert list((tmp_path / "root/checkpoints").iterdir()) == []


def test_other_classes_are_refused(published, tmp_path):
    with pytest.raises(UserError, match="tells 10 classes apart, and the data set has 12; give"):
        made(tmp_path, classes=12)


def test_torchvision_says_what_it_publishes():
    found = published_weights("squeezenet1_0", "DEFAULT")
    assert (found.classes, found.normalize) == (1000, NORMALIZE)
    assert found.url.endswith("/squeezenet1_0-b66bff10.pth")
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert published_weights("googlenet", "IMAGENET1K_V1").normalize == halves
    with pytest.raises(UserError, match="no weights 'V7' of alexnet; write one of IMAGENET1K_V1"):
        published_weights("alexnet", "V7")


def test_the_published_networks_of_mean_one_half_are_so():
    """What torchvision does itself where it loads these weights: `transform_input`."""
    with seeded(0):
        network = torchvision_models.torchvision_network("googlenet", 10).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(NORMALIZE[key]).view(3, 1, 1) for key in ("mean", "std"))
    network.transform_input = True
    with torch.no_grad():
        wanted = network((images - mean) / std)
        network.transform_input = False
        torch.testing.assert_close(network((images - 0.5) / 0.5), wanted)


@pytest.fixture
def model_of(config, schema, reference, tmp_path, monkeypatch):
    """Return the function from an entry to the job of its model."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))

    def model(**entry):
        changed = deepcopy(config)
        shape = {"shape": list(SHAPE), "classes": 1000, "description": ""}
        changed["models"]["theirs"] = {**shape, **entry}
        return Study(changed, schema, reference, [str(tmp_path)]).model("theirs", 0)

    return model


def test_planning_needs_no_file(model_of, tmp_path):
    job = model_of(architecture="torchvision:alexnet", weights="torchvision:IMAGENET1K_V1")
    assert job.settings["weights"] == "torchvision:IMAGENET1K_V1"
    assert job.options == {"file": f"{tmp_path}/checkpoints", "download": "1"}
    assert "torchvision" in job.settings["versions"]
    other = model_of(architecture="torchvision:alexnet", weights="torchvision:DEFAULT")
    assert other.digest != job.digest


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"architecture": "tiny_darknet"}, "write architecture: torchvision:NAME"),
        (
            {"architecture": "torchvision:alexnet", "normalize": NORMALIZE},
            "normalize: it comes with torchvision's weights; take it out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(model_of, entry, told):
    with pytest.raises(UserError, match=told):
        model_of(weights="torchvision:DEFAULT", **entry)
