"""Data from a user's function: when it is called, and what of it counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import sources
from snakemake.cli import parse_config
from sources import NAMES, prepared, study_of, synthetic

from blindspots.errors import UserError

CODE = """
import numpy as np

import my_helper

def load(file="x.npz", **options):
    print("called")
    with open("calls", "a") as calls:
        calls.write("x")
    with np.load(file) as held:
        found = dict(held)
    found["train_images"][0] = np.random.randint(0, my_helper.HIGHEST, (32, 32, 3))
    return found
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder as working directory, with a function that counts its calls and draws at random."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path / "root"))
    monkeypatch.setattr("blindspots.data.index.UNSETTLED", 0)
    (tmp_path / "my_data.py").write_text(CODE)
    (tmp_path / "my_helper.py").write_text("HIGHEST = 256\n")
    np.savez(tmp_path / "x.npz", **synthetic())
    return tmp_path


def calls():
    return len(Path("calls").read_text()) if Path("calls").exists() else 0


def test_short_and_long_form_are_the_same(here, schema):
    short = study_of("my_data:load", schema)
    full = study_of({"module": "my_data:load"}, schema)
    assert short.job("prepare_data").digest == full.job("prepare_data").digest
    assert short.config["dataset"] == {"module": "my_data:load", "options": {}}
    assert short.facts.names == NAMES and short.facts.title == "my_data:load"
    assert calls() == 1  # and what is known is kept


def test_step_gets_what_was_planned(here, schema):
    """Though it draws from a global generator; with the code of the module in its identity."""
    study = study_of("my_data:load", schema)
    job = study.job("prepare_data")
    assert "-" in job.code and job.options == {}
    content = json.loads(job.spec)["content"]
    assert content.keys() == {"module", "options", "arrays"}
    done = prepared(study, here / "data.safetensors")
    assert done.returncode == 0, done.stderr
    (here / "my_data.py").write_text(CODE.replace("print", "repr"))
    other = study_of("my_data:load", schema).job("prepare_data")
    assert other.spec == job.spec and other.code != job.code
    (here / "my_data.py").write_text(CODE + "\n# a comment\n")
    assert study_of("my_data:load", schema).job("prepare_data").digest == job.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("my_data.py").write_text(CODE.replace("[0] =", "[1] =")),
        lambda: Path("my_helper.py").write_text("HIGHEST = 200\n"),
        lambda: np.savez("x.npz", **synthetic(train=16)),
    ],
    ids=["module", "module that it imports", "file that it reads"],
)
def test_it_is_called_again_when_something_has_changed(here, schema, change):
    before = study_of("my_data:load", schema).facts.content
    change()
    assert study_of("my_data:load", schema).facts.content != before
    assert calls() == 2


def test_options_reach_it_and_count(here, schema):
    np.savez("y.npz", **synthetic(train=16))
    options = {"file": "y.npz", "more": {"a": [1, 2.5, None]}}
    facts = study_of({"module": "my_data:load", "options": options}, schema).facts
    assert facts.sizes["train"] == 16 and facts.content["options"]["file"] == "y.npz"
    study_of("my_data:load", schema)
    study_of({"module": "my_data:load", "options": options}, schema)
    assert calls() == 2


def test_options_that_the_command_line_makes_text_of(here, schema):
    """They are told before the function is called with them."""
    given = parse_config(["dataset={module: my_data:load, options: {more: [3]}}"])
    with pytest.raises(UserError, match=r"dataset\.options\.more\[0\] is the text '3'; --config"):
        study_of(given["dataset"], schema, command_line=given)
    assert calls() == 0


def test_folder_that_it_lists(here, schema):
    (here / "parts").mkdir()
    np.savez("parts/a.npz", **synthetic())
    listing = "import os\n" + CODE.replace("np.load(file)", "np.load(max(os.listdir('parts')))")
    (here / "my_data.py").write_text(listing.replace("max(os", "'parts/' + max(os"))
    before = study_of("my_data:load", schema).facts.content
    np.savez("parts/b.npz", **synthetic(test=4))
    assert study_of("my_data:load", schema).facts.content != before


def test_function_that_returns_something_else_each_time(here, schema):
    (here / "my_data.py").write_text(
        CODE.replace("np.random.randint", "np.random.default_rng().integers")
    )
    study = study_of("my_data:load", schema)
    done = prepared(study, here / "data.safetensors")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: my_data:load returned other images, labels or names than when" in done.stderr
    assert not (here / "data.safetensors").exists()


def test_function_with_torch_and_torchvision(here, schema):
    """Tensors are arrays, and torchvision can be imported beside any build of torch."""
    (here / "my_data.py").write_text(
        "import torch\nfrom torchvision.transforms import functional\n\n"
        "def load():\n"
        "    images = torch.randint(0, 256, (8, 6, 6, 3), dtype=torch.uint8)\n"
        "    labels = torch.arange(8) % 2\n"
        "    return images, labels, functional.hflip(images), labels, ['a', 'b']\n"
    )
    study = study_of("my_data:load", schema)
    assert study.facts.shape == (3, 6, 6)
    assert prepared(study, here / "data.safetensors").returncode == 0
    assert sources.payload(here / "data.safetensors")[2]["names"] == ["a", "b"]
