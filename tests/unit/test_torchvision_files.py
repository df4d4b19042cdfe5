"""Data sets in torchvision's layout: the published files, others in their form, and downloads."""

import hashlib
from dataclasses import replace
from io import BytesIO
from shutil import copytree

import numpy as np
import pytest
import sources
from scipy.io import savemat
from sources import NAMES, prepared, study_of, synthetic

from blindspots.data import torchvision_datasets, torchvision_files
from blindspots.data.idx import PUBLISHED
from blindspots.data.torchvision_catalogue import CATALOGUE, File
from blindspots.data.torchvision_files import load, planned
from blindspots.errors import UserError

META = "cifar-10-batches-py/batches.meta"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder as working directory, with a data root in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path / "root"))
    return tmp_path


@pytest.fixture
def published(here, monkeypatch):
    """Make a small data set in CIFAR-10's layout the published one; return its root."""
    sources.as_cifar(synthetic(), here / "published")
    entry = CATALOGUE["CIFAR10"]

    def small(file, images):
        content = (here / "published" / file.path).read_bytes()
        return File(file.path, hashlib.md5(content).hexdigest(), images)

    counts = {"train": (3, 3, 2, 2, 2), "test": (8,)}
    files = {
        base: tuple(small(*pair) for pair in zip(those, counts[base], strict=True))
        for base, those in entry.files.items()
    }
    meta = small(entry.meta, 0)
    entry = replace(entry, files=files, meta=meta, classes=4, names=tuple(NAMES))
    monkeypatch.setitem(CATALOGUE, "CIFAR10", entry)
    return here / "published"


def arrays_of(root, name="CIFAR10", **options):
    found = load(name, root, options.pop("download", False), planned(name, root).content)
    return found.images, found.labels


# What is published -------------------------------------------------------------------------------


def test_catalogue_agrees_with_torchvision():
    """Names, places and digests are those by which torchvision finds and checks its files."""
    datasets = torchvision_datasets.DATASETS
    for name in ("CIFAR10", "CIFAR100"):
        kind, entry = getattr(datasets, name), CATALOGUE[name]
        for base, listed in (("train", kind.train_list), ("test", kind.test_list)):
            wanted = [(f"{kind.base_folder}/{file}", md5) for file, md5 in listed]
            assert [(file.path, file.md5) for file in entry.files[base]] == wanted
        assert entry.meta.path == f"{kind.base_folder}/{kind.meta['filename']}"
        assert entry.meta.md5 == kind.meta["md5"] and entry.meta_names == kind.meta["key"]
        assert len(entry.names) == len(set(entry.names)) == entry.classes
        assert list(entry.names) == sorted(entry.names)
    for base, (file,) in CATALOGUE["SVHN"].files.items():
        assert [file.path, file.md5] == datasets.SVHN.split_list[base][1:]


@pytest.mark.parametrize("name", CATALOGUE)
def test_facts_without_files_are_those_published(here, schema, name):
    study = study_of({"torchvision": name}, schema)
    classes = {"CIFAR10": 10, "CIFAR100": 100, "SVHN": 10}[name]
    assert study.facts.shape == (3, 32, 32) and study.facts.classes == classes
    assert study.facts.sizes["test"] in (10000, 26032)
    assert set(study.facts.content["files"].values()) == {PUBLISHED}
    assert study.facts.content["name"] == name
    done = prepared(study_of({"torchvision": name}, schema, download=False), here / "data")
    assert done.returncode == 1 and "is missing. To get " + name in done.stderr
    assert "Traceback" not in done.stderr and not (here / "data").exists()


def test_published_files_count_as_published(published, here):
    assert planned("CIFAR10", published) == planned("CIFAR10", here / "nowhere")
    assert planned("CIFAR10", published).sizes == {"train": 12, "test": 8}
    images, labels = arrays_of(published)
    wanted = synthetic()
    assert np.array_equal(images["train"], wanted["train_images"].transpose(0, 3, 1, 2))
    assert images["train"].flags.c_contiguous and labels["train"].dtype == np.int64
    assert labels["test"].tolist() == wanted["test_labels"].tolist()


# What is not -------------------------------------------------------------------------------------


def test_a_part_of_the_published_files(here, schema):
    """Sizes, classes and names are those of the files; other bytes are another data set."""
    arrays = synthetic(train=20, test=4)
    dataset = sources.as_cifar(arrays, here / "root")
    study = study_of(dataset, schema)
    assert study.facts.sizes == {"train": 20, "test": 4} and study.facts.names == NAMES
    assert (
        study.facts.title == "CIFAR-10" and PUBLISHED not in study.facts.content["files"].values()
    )
    before = study.job("prepare_data").spec
    path = here / "root" / META
    path.write_bytes(path.read_bytes().replace(b"cat", b"ape"))
    after = study_of(dataset, schema)
    assert after.facts.names == ["ape", *NAMES[1:]] and after.job("prepare_data").spec != before


def test_file_beside_the_published_ones(published, here):
    """What is missing is what a download would bring: two are there that are not published."""
    sources.as_cifar(synthetic(train=20, test=4), here / "root")
    for file in CATALOGUE["CIFAR10"].files["train"][1:]:
        (here / "root" / file.path).unlink()
    facts = planned("CIFAR10", here / "root")
    assert facts.sizes == {"train": 4 + 9, "test": 4}
    assert list(facts.content.values()).count(PUBLISHED) == 5


def test_pickles_of_python_2(here, schema):
    """Text without Unicode, as the published files have it."""
    rows = np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072)
    dataset = sources.as_cifar(synthetic(), here / "root")
    held = b"(dp0\nS'labels'\np1\n(lp2\nI0\naI1\naI2\naI3\nasS'data'\np3\n"
    held += b"cnumpy.core.multiarray\n_reconstruct\np4\n(cnumpy\nndarray\np5\n(I0\ntp6\nS'b'\np7\n"
    held += (
        b"tp8\nRp9\n(I1\n(I4\nI3072\ntp10\ncnumpy\ndtype\np11\n(S'u1'\np12\nI0\nI1\ntp13\nRp14\n"
    )
    held += b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS" + repr(rows.tobytes())[1:].encode() + b"\ntbs."
    (here / "root/cifar-10-batches-py/test_batch").write_bytes(held)
    study = study_of(dataset, schema)
    assert study.facts.sizes["test"] == 4
    images, labels = arrays_of(here / "root")
    assert np.array_equal(images["test"].reshape(4, -1), rows)
    assert labels["test"].tolist() == [0, 1, 2, 3]


def test_files_that_were_exchanged_since_the_plan(published, here):
    content = planned("CIFAR10", published).content
    path = published / META
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"batches\.meta is another file than snakemake saw when"):
        load("CIFAR10", published, False, content)


def test_a_file_is_read_once(published, monkeypatch):
    monkeypatch.setattr("blindspots.data.index.UNSETTLED", 0)
    read, bytes_of = [], torchvision_files._bytes
    monkeypatch.setattr(
        torchvision_files, "_bytes", lambda name, path: read.append(path) or bytes_of(name, path)
    )
    first = planned("CIFAR10", published)
    assert len(read) == 7 and planned("CIFAR10", published) == first and len(read) == 7


# SVHN --------------------------------------------------------------------------------------------


def svhn(**changes):
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    held = {"X": images, "y": np.arange(1, 21, dtype=np.uint8)[:, None] % 10} | changes
    held["y"] = np.where(held["y"] == 0, 10, held["y"])  # as published: 10 is the digit 0
    stream = BytesIO()
    savemat(stream, {name: value for name, value in held.items() if value is not None})
    return stream.getvalue(), images


def test_svhn(here, schema):
    content, images = svhn()
    (here / "root").mkdir()
    for base in ("train", "test"):
        (here / f"root/{base}_32x32.mat").write_bytes(content)
    facts = study_of({"torchvision": "SVHN"}, schema).facts
    assert facts.sizes == {"train": 20, "test": 20} and facts.names is None
    found, labels = arrays_of(here / "root", "SVHN")
    assert np.array_equal(found["train"], images.transpose(3, 2, 0, 1))
    assert labels["train"].tolist() == [*range(1, 10), 0] * 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "test_32x32.mat is truncated or damaged ("),
        (svhn()[0][:-50], "test_32x32.mat is truncated or damaged ("),
        (svhn(X=np.zeros((3, 32, 32, 20)))[0], "holds no images of type uint8"),
        (svhn(X=np.zeros((32, 32, 20), np.uint8))[0], "holds no images of type uint8"),
        (svhn(X=np.zeros((64, 64, 3, 20), np.uint8))[0], "pixels of shape (20, 3, 64, 64)"),
        (svhn(y=np.zeros((19, 1), np.uint8))[0], "holds 19 labels and pixels"),
        (svhn(y=np.full((20, 1), 11, np.uint8))[0], "has a label 11, but there are 10 classes; co"),
    ],
    ids=["nothing", "cut off", "fractions", "one channel", "larger", "fewer labels", "label"],
)
def test_mistake_in_svhn(here, schema, content, said):
    (here / "root").mkdir()
    (here / "root/test_32x32.mat").write_bytes(content)
    with pytest.raises(UserError) as caught:
        study_of({"torchvision": "SVHN"}, schema)
    assert said in str(caught.value) and "\n" not in str(caught.value)


# Downloads ---------------------------------------------------------------------------------------


class Torchvision:
    """Writes the published files below a root, as classes of ``torchvision.datasets`` do."""

    def __init__(self, published):
        self.published, self.calls = published, []

    def __call__(self, root, download, **part):
        self.calls.append(part)
        assert download
        copytree(self.published, root, dirs_exist_ok=True)
        (root / "cifar-10-python.tar.gz").write_bytes(b"an archive")


def test_download_brings_what_is_missing(published, here, monkeypatch):
    """And nothing else: neither the archive nor files that are there."""
    bring = Torchvision(published)
    monkeypatch.setattr(
        torchvision_datasets.DATASETS, "CIFAR10", lambda root, **o: bring(here / root, **o)
    )
    content = planned("CIFAR10", here / "root").content
    found = load("CIFAR10", here / "root", True, content)
    for one, other in zip((found.images, found.labels), arrays_of(published), strict=True):
        assert all(np.array_equal(one[base], other[base]) for base in one)
    assert bring.calls == [{"train": True}]
    below = [p.relative_to(here / "root") for p in (here / "root").rglob("*") if p.is_file()]
    assert sorted(map(str, below)) == sorted(content)
    (here / "root" / META).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (here / "root").rglob("data_batch*")}
    load("CIFAR10", here / "root", True, content)
    assert all(path.stat().st_mtime_ns == date for path, date in kept.items())


def test_both_parts_of_svhn_are_downloaded(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        torchvision_datasets.DATASETS, "SVHN", lambda root, **options: asked.append(options)
    )
    torchvision_datasets.download("SVHN", tmp_path)
    assert asked == [{"split": part, "download": True} for part in ("train", "test")]


def test_failed_download_leaves_nothing_behind(here, monkeypatch):
    def fail(root, **options):
        (here / "root" / "part").write_bytes(b"half")
        (here / "root" / "part").unlink()
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision_datasets.DATASETS, "CIFAR100", fail)
    content = planned("CIFAR100", here / "root").content
    with pytest.raises(UserError) as caught:
        load("CIFAR100", here / "root", True, content)
    text = str(caught.value)
    assert "meta is missing and could not be downloaded (Network is unreachable). To get" in text
    assert list((here / "root").iterdir()) == []
