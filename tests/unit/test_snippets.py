"""What docs/extending.md says of configuration alone: every block of it is run."""

import runpy

import pytest
import torch
import yaml
from snakemake.utils import update_config
from snippets import ALONE, POINTS, snippets

from blindspots.attacks.methods import method
from blindspots.data.torchvision_catalogue import CATALOGUE
from blindspots.models.networks import build_network
from blindspots.models.weight_files import load_strictly, read_weights
from blindspots.study import libraries
from blindspots.study.study import Study

MINE = [snippet for snippet in snippets() if snippet.section == ALONE]
CONFIGURATIONS = [yaml.safe_load(s.text) for s in MINE if s.language == "yaml"]
FILES = [snippet for snippet in MINE if snippet.language == "python"]
NETWORK = {"kind": "my_networks:two_layers", "options": {"width": 50}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the Python files of the page, each of which has been run."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for snippet in FILES:
            snippet.apply(folder)
            runpy.run_path(snippet.path)
    return folder


@pytest.fixture
def here(written, monkeypatch):
    """The same as the working directory and on the path, without the files of data sets."""
    monkeypatch.chdir(written)
    monkeypatch.syspath_prepend(written)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(written))
    return written


def test_every_block_is_run_by_a_test():
    """Those of the four points by tests/workflow/test_extending.py."""
    for snippet in snippets():
        assert snippet.section in (*POINTS, ALONE), snippet
        assert snippet.language in ("python", "yaml", "diff", "rst"), snippet
        assert snippet.path or snippet.language == "yaml", snippet
    assert CONFIGURATIONS and FILES


@pytest.mark.parametrize("change", CONFIGURATIONS, ids=str)
def test_configuration_makes_a_study(config, schema, reference, here, monkeypatch, change):
    """Merged into config.yaml, it has no mistake, and what it adds is made."""
    monkeypatch.setattr(libraries, "version", lambda package: "1")  # of peers, installed or not
    update_config(config, change)
    asked = {entry.get("attack") for entry in change.get("experiments", {}).values()}
    for attack in change.get("attacks", {}).keys() - asked:
        config["experiments"]["cross_training_set"]["attack"] = attack
        config["figures"] = {}
    study = Study(config, schema, reference, [str(here)])
    made = [(job.rule, set(job.wildcards.values())) for job in study.jobs]
    for section, rule in (
        ("models", "train_model"),
        ("attacks", "generate_adversarial_set"),
        ("tables", "tabulate"),
    ):
        for name in change.get(section, {}):
            assert any(rule == other and name in names for other, names in made), name
    for grid in change.get("figures", {}).get("examples", {}):
        assert ("plot_adversarial_examples", {grid}) in made
    for name in change.get("run", []):
        assert any(name in names for _, names in made), name
    if "dataset" in change:
        shape, names = (3, 16, 16), ["cat", "dog", "ship"]
        if change["study"] == "cifar":
            shape, names = (3, 32, 32), list(CATALOGUE["CIFAR10"].names)
        assert study.facts.shape == shape and study.facts.names == names


def test_stored_images_are_variants_of_the_rows(config, schema, reference, here):
    change = next(c for c in CONFIGURATIONS if "stored" in str(c))
    update_config(config, change)
    study = Study(config, schema, reference, [str(here)])
    row = study.job("evaluate_transfer", model="M1", attack="test-random", seed=0)
    kinds = [variant["kind"] for variant in row.settings["variants"]]
    assert kinds.count("stored") == 3


def test_network_and_its_weights_fit(here):
    network = build_network(NETWORK, (1, 28, 28), 10, seed=0)
    before = network(torch.zeros(2, 1, 28, 28))
    load_strictly(network, read_weights("own.pt"), "own.pt")
    assert not torch.equal(before, network(torch.zeros(2, 1, 28, 28)))


def test_attack_is_called(here, softmax, digits):
    images, labels = (tensor[:20] for tensor in digits)
    found = method("my_attacks:towards_grey")(
        softmax, images, labels, targets=None, chunk=20, share=0.3
    )
    moved = found.images[found.success]
    expected = (images + 0.3 * (0.5 - images))[found.success]
    assert torch.allclose(moved, expected)
