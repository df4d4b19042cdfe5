"""The same images from every source: the same data, byte for byte; planned fast, and by content."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sources
from sources import NAMES, prepared, study_of, synthetic

from blindspots.data import index
from blindspots.errors import UserError

CIFAR = Path(os.environ.get("BLINDSPOTS_DATA", "data")) / "cifar10-subset.npz"
BASES = ("train", "test")
FORMS = {
    "archive": lambda arrays, folder: sources.as_archive(arrays, folder / "mine.npz"),
    "folder": lambda arrays, folder: sources.as_folder(arrays, folder / "mine"),
    "tables": lambda arrays, folder: sources.as_tables(arrays, folder / "listed"),
    "torchvision": lambda arrays, folder: sources.as_cifar(arrays, folder / "root"),
    "function": lambda arrays, folder: sources.as_function(arrays, folder),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder as working directory, with a data root in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path / "root"))
    return tmp_path


@pytest.fixture
def settled(monkeypatch):
    """Files that have just been written count as settled."""
    monkeypatch.setattr(index, "UNSETTLED", 0)


def cut_of_cifar():
    """Return some images of every class of CIFAR-10, class by class."""
    with np.load(CIFAR) as held:
        arrays = {"classes": held["classes"]}
        for base, count in (("train", 300), ("test", 100)):
            labels = held[f"{base}_labels"][:count].astype(int)
            order = np.argsort(labels, kind="stable")
            arrays |= {
                f"{base}_labels": labels[order],
                f"{base}_images": held[f"{base}_images"][:count][order],
            }
    return arrays


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param(synthetic, id="synthetic"),
        pytest.param(
            cut_of_cifar,
            id="cifar",
            marks=pytest.mark.skipif(
                not CIFAR.is_file(), reason="no cifar10-subset.npz below BLINDSPOTS_DATA"
            ),
        ),
    ],
)
def test_every_source_gives_the_same_bytes(here, schema, arrays):
    """An archive, class folders, CSV files, torchvision's layout, and a function."""
    arrays, found = arrays(), {}
    for name, write in FORMS.items():
        study = study_of(write(arrays, here), schema)
        done = prepared(study, here / f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
        found[name] = sources.payload(here / f"{name}.safetensors")
        assert study.facts.shape == (3, 32, 32) and study.facts.names == list(arrays["classes"])
    for name in FORMS:
        assert found[name] == found["archive"], name


def test_grey_images_of_any_size(here, schema):
    """As 8-bit grey in folders and in an archive without a last axis; JPEG is read, too."""
    arrays = synthetic(sides=(5, 9), channels=1)
    study = study_of(sources.as_folder(arrays, here / "mine"), schema)
    assert study.facts.shape == (1, 5, 9) and study.facts.title == "mine"
    assert study.facts.sizes == {"train": 12, "test": 8} and study.facts.names == NAMES
    assert prepared(study, here / "one.safetensors").returncode == 0
    flat = arrays | {f"{b}_images": arrays[f"{b}_images"][..., 0] for b in ("train", "test")}
    other = study_of(sources.as_archive(flat, here / "mine.npz"), schema)
    assert prepared(other, here / "two.safetensors").returncode == 0
    one, two = (sources.payload(here / f"{name}.safetensors") for name in ("one", "two"))
    assert one == two
    lossy = sources.as_folder(arrays, here / "lossy", suffix="jpg", quality=80)
    assert study_of(lossy, schema).facts.shape == (1, 5, 9)


def test_class_without_test_images(here, schema):
    dataset = sources.as_folder(synthetic(), here / "mine")
    shutil.rmtree(here / "mine/test/dog")
    facts = study_of(dataset, schema).facts
    assert facts.classes == 4 and facts.sizes == {"train": 12, "test": 6}


def test_resize_crop_and_channels(here, schema):
    """They are part of what the images are made from."""
    folder = sources.as_folder(synthetic(sides=(20, 30)), here / "mine")
    shapes, specs = [], set()
    for form in (
        {},
        {"resize": 10},
        {"resize": 10, "crop": 8},
        {"crop": [8, 6], "channels": 1},
        {"crop": 8, "resize": 10, "channels": 3},
    ):
        study = study_of({**folder, **form}, schema)
        shapes.append(study.facts.shape)
        specs.add(study.job("prepare_data").spec)
    assert shapes == [(3, 20, 30), (3, 10, 15), (3, 8, 8), (1, 8, 6), (3, 8, 8)]
    assert len(specs) == 4  # the last is the third, in other words
    assert prepared(study, here / "data.safetensors").returncode == 0
    assert sources.payload(here / "data.safetensors")[2]["shape"] == [3, 8, 8]


# Identity ----------------------------------------------------------------------------------------


def spec(dataset, schema):
    return study_of(dataset, schema).job("prepare_data").spec


def test_neither_dates_nor_places_count(here, schema, settled):
    folder = sources.as_folder(synthetic(), here / "mine")
    before = spec(folder, schema)
    for path in (here / "mine").rglob("*.png"):
        os.utime(path, (1, 1))
    assert spec(folder, schema) == before
    shutil.move(here / "mine", here / "root/mine")  # the data root
    assert spec({"folder": "mine"}, schema) == before
    shutil.move(here / "root/mine", here / "other")
    assert spec({"folder": "other"}, schema) == before
    shutil.rmtree(".snakemake")
    assert spec({"folder": "other"}, schema) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda mine: (mine / "train/cat/00000.png").unlink(),
        lambda mine: (mine / "train/cat/00000.png").rename(mine / "train/dog/00000.png"),
        lambda mine: (mine / "train/cat/00000.png").rename(mine / "train/cat/0.png"),
        lambda mine: (mine / "train/cat/00000.png").rename(mine / "test/cat/9.png"),
        lambda mine: shutil.copy(mine / "test/cat/00000.png", mine / "train/cat/00000.png"),
        lambda mine: [(mine / base / "cat").rename(mine / base / "ape") for base in BASES],
    ],
    ids=["gone", "another class", "another name", "another set", "other bytes", "class renamed"],
)
def test_what_counts_of_pictures(here, schema, change):
    folder = sources.as_folder(synthetic(), here / "mine")
    before = spec(folder, schema)
    change(here / "mine")
    assert spec(folder, schema) != before


def test_what_is_not_listed_does_not_count(here, schema):
    """Hidden files, and what lies beside the two base sets."""
    folder = sources.as_folder(synthetic(), here / "mine")
    before = spec(folder, schema)
    (here / "mine/README").write_text("mine")
    (here / "mine/train/.DS_Store").write_text("")
    (here / "mine/train/cat/.thumbs").write_text("")
    assert spec(folder, schema) == before


# Planning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_planning_loads_nothing_heavy_the_second_time(here, schema, settled, form):
    """Neither torch, ever, nor numpy and Pillow, when the files are known; archives excepted."""
    dataset = FORMS[form](synthetic(), here)
    study_of(dataset, schema)
    heavy = ("torch", "scipy", "pandas", *(("numpy", "PIL") if form != "archive" else ()))
    code = (
        "import json, sys, yaml\n"
        f"sys.path.insert(0, {str(Path(sources.__file__).parent)!r})\n"
        "from blindspots.study.study import Study\n"
        f"schema = yaml.safe_load(open({str(sources.ROOT / 'workflow/schemas')!r}"
        " + '/config.schema.yaml'))\n"
        f"config = {{**{sources.STUDY!r}, 'dataset': {dataset!r}}}\n"
        "from pathlib import Path\n"
        f"Study(config, schema, Path({str(sources.ROOT / 'workflow/reference')!r}), ['.'])\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(sources.ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_picture_is_read_again_only_when_it_has_changed(here, schema, settled, monkeypatch):
    from blindspots.data import picture_folder

    folder = sources.as_folder(synthetic(), here / "mine")
    read, bytes_of = [], picture_folder._bytes
    monkeypatch.setattr(picture_folder, "_bytes", lambda p: read.append(Path(p)) or bytes_of(p))
    before = spec(folder, schema)
    assert len(read) == 20
    assert spec(folder, schema) == before and len(read) == 20
    path = here / "mine/train/cat/00000.png"
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the date that it had
    assert spec(folder, schema) == before and read[20:] == [path]
    (next(Path(index.FOLDER).glob("*.json"))).write_text('{"of": [')  # damaged
    assert spec(folder, schema) == before and len(read) == 41


def test_file_that_has_just_been_written_is_read_again(here, schema, monkeypatch):
    """It may change once more within the same tick of the file system's clock."""
    from blindspots.data import picture_folder

    folder = sources.as_folder(synthetic(), here / "mine")
    monkeypatch.setattr(index, "UNSETTLED", 3_600_000_000_000)
    read, bytes_of = [], picture_folder._bytes
    monkeypatch.setattr(picture_folder, "_bytes", lambda p: read.append(p) or bytes_of(p))
    spec(folder, schema)
    spec(folder, schema)
    assert len(read) == 40 and not Path(index.FOLDER).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_planning_in_a_folder_that_cannot_be_written(here, schema, settled):
    folder = sources.as_folder(synthetic(), here / "mine")
    here.chmod(0o500)
    try:
        assert spec(folder, schema) == spec(folder, schema)
    finally:
        here.chmod(0o700)


def test_index_in_whose_place_a_file_lies(here, schema, settled):
    folder = sources.as_folder(synthetic(), here / "mine")
    Path(".snakemake").write_text("")
    assert spec(folder, schema) == spec(folder, schema)


# A test set alone --------------------------------------------------------------------------------


@pytest.fixture
def photographs(here):
    """A few pictures with sparse labels of a thousand classes, and a network for them."""
    import torch

    from blindspots.models.networks import build_network

    arrays = synthetic()
    sources.as_tables(arrays, here / "photographs")
    table = here / "photographs/test.csv"
    lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    text = "\n".join(f"{path},{int(label) * 300},{name}" for path, label, name in rows)
    table.write_text(f"path,class_index,name\n{text}\n")
    network = build_network({"kind": "softmax"}, (3, 32, 32), 1000, seed=0)
    torch.save(network.state_dict(), here / "given.pt")
    return {"folder": "photographs", "test": "test.csv", "classes": 1000}


GIVEN = {"models": {"A": {"architecture": "softmax", "weights": "given.pt"}}}


def test_test_set_alone(here, schema, photographs):
    """Parts of the other that nobody uses are no mistake."""
    parts = {
        "P1": {"of": "train", "share": [0, 0.5]},
        "P2": {"of": "train", "range": [3, 9]},
        "few": {"of": "test", "range": [0, 4]},
    }
    splits = {"parts": parts, "disjoint": [["P1", "P2"], ["train", "test"]]}
    models = {**GIVEN["models"], "unused": {"architecture": "softmax", "split": "P1"}}
    study = study_of(photographs, schema, models=models, splits=splits)
    assert study.facts.sizes == {"train": 0, "test": 8}
    assert study.facts.classes == 1000 and study.facts.names[300:302] == ["dog", "301"]
    done = prepared(study, here / "data.safetensors")
    assert done.returncode == 0, done.stderr
    content, header, _ = sources.payload(here / "data.safetensors")
    assert header["train_images"]["shape"] == [0, 3, 32, 32]
    assert header["test_labels"]["shape"] == [8] and len(content) == 8 * (8 + 3 * 32 * 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": {"A": {"architecture": "softmax", "split": "train"}}}, "train model A 0 needs"),
        ({"models": {"A": {"architecture": "softmax", "split": "P1"}}}, "needs images of P1"),
        (
            {"attacks": {"a": {"method": "ddn", "targets": "random", "images": "P1"}}},
            "generate adversarial set a A 0 needs images of P1",
        ),
        (
            {"experiments": {"e": {"attack": "a", "sources": ["A"], "clean": ["train"]}}},
            "evaluate noise train 0 needs images of train",
        ),
    ],
    ids=["model", "model on a part", "attack", "clean images"],
)
def test_images_that_a_test_set_alone_has_not(here, schema, photographs, changes, said):
    splits = {"parts": {"P1": {"of": "train", "share": [0, 0.5]}}}
    with pytest.raises(UserError) as caught:
        study_of(photographs, schema, **{**GIVEN, "splits": splits, **changes})
    text = str(caught.value)
    assert said in text and "photographs has a test set alone; take models from files" in text
    assert "\n" not in text


IMAGENET = CIFAR.parent / "imagenet-mini"


@pytest.mark.skipif(not IMAGENET.is_dir(), reason="no imagenet-mini below BLINDSPOTS_DATA")
def test_photographs_with_indices_of_imagenet(here, schema, monkeypatch):
    monkeypatch.setenv("BLINDSPOTS_DATA", str(IMAGENET.parent))
    dataset = {"folder": "imagenet-mini", "test": "labels.csv", "classes": 1000}
    study = study_of(
        {**dataset, "resize": 256, "crop": 224},
        schema,
        models={"A": {"architecture": "softmax", "split": "test"}},
    )
    assert study.facts.shape == (3, 224, 224) and study.facts.classes == 1000
    assert study.facts.sizes == {"train": 0, "test": 128}
    assert prepared(study, here / "data.safetensors").returncode == 0
