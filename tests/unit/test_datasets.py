"""Reading and checking data sets."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from blindspots.data import torchvision_datasets
from blindspots.data.catalogue import CATALOGUE, IDX_FILES, Entry
from blindspots.data.datasets import load_dataset
from blindspots.data.idx import PUBLISHED, contents
from blindspots.data.sources import digits
from blindspots.errors import UserError

SIZES, SIDE = {"train": 5, "test": 3}, 4
WAYS_OUT = ("download: true", "BLINDSPOTS_DATA", "data_root", "STUDY=digits")


def idx_bytes(base, kind):
    """Return a small IDX file of the right form."""
    generator, size = np.random.default_rng(len(base)), SIZES[base]
    if kind == "images":
        pixels = generator.integers(0, 256, (size, SIDE, SIDE), dtype=np.uint8)
        return struct.pack(">4I", 2051, size, SIDE, SIDE) + pixels.tobytes()
    labels = generator.integers(0, 10, size, dtype=np.uint8)
    return struct.pack(">2I", 2049, size) + labels.tobytes()


CONTENT = {file: idx_bytes(base, kind) for (base, kind), file in IDX_FILES.items()}
TRAIN_IMAGES, TRAIN_LABELS = IDX_FILES["train", "images"], IDX_FILES["train", "labels"]


@pytest.fixture
def small_mnist(monkeypatch):
    """Make the catalogue's MNIST a data set of eight small images."""
    digests = {file: hashlib.md5(content).hexdigest() for file, content in CONTENT.items()}
    entry = Entry("MNIST", SIZES, side=SIDE, folder="MNIST", raw_md5=digests)
    monkeypatch.setitem(CATALOGUE, "mnist", entry)


@pytest.fixture
def raw(tmp_path, small_mnist):
    """The folder of the small data set's four files."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in CONTENT.items():
        (folder / file).write_bytes(content)
    return folder


def refused(root, download=False):
    """Return the text of the error that reading raises."""
    with pytest.raises(UserError) as caught:
        load_dataset("mnist", root, download)
    return str(caught.value)


def check_small(data):
    for base, size in SIZES.items():
        pixels = CONTENT[IDX_FILES[base, "images"]][16:]
        assert data.images[base].shape == (size, 1, SIDE, SIDE)
        assert data.images[base].dtype == np.uint8 and data.images[base].tobytes() == pixels
        assert data.labels[base].dtype == np.int64
        assert data.labels[base].tolist() == list(CONTENT[IDX_FILES[base, "labels"]][8:])
    assert data.facts.maximum == 255


def test_embedded_digits():
    """All of scikit-learn's images, each once, with pixels from 0 to 16."""
    from sklearn.datasets import load_digits

    data, source = digits.load(), load_digits()
    assert {base: len(labels) for base, labels in data.labels.items()} == digits.FACTS.sizes
    assert data.images["train"].shape == (1297, 1, 8, 8)
    assert data.images["test"].shape == (500, 1, 8, 8)
    assert data.facts.maximum == 16
    assert data.images["train"].dtype == np.uint8
    assert data.labels["test"].dtype == np.int64
    images = np.concatenate([data.images[base].reshape(-1, 64) for base in data.images])
    labels = np.concatenate([data.labels[base] for base in data.labels])
    assert images.min() == 0 and images.max() == 16
    assert np.array_equal(np.unique(data.labels["test"]), np.arange(10))
    found = np.column_stack([images, labels])
    wanted = np.column_stack([source.data.astype(int), source.target])
    assert np.array_equal(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)])


def test_embedded_digits_are_cut_once_and_for_all():
    one, other = (digits.load() for _ in range(2))
    for base in one.images:
        assert np.array_equal(one.images[base], other.images[base])
        assert np.array_equal(one.labels[base], other.labels[base])


def test_idx_files(raw, tmp_path):
    check_small(load_dataset("mnist", tmp_path, download=False))


def test_compressed_idx_files(raw, tmp_path):
    """Where only the .gz is there, it is read."""
    for file, content in CONTENT.items():
        (raw / file).unlink()
        (raw / f"{file}.gz").write_bytes(gzip.compress(content))
    check_small(load_dataset("mnist", tmp_path, download=False))


def test_files_on_disk_are_never_downloaded(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "download", lambda kind, root: pytest.fail())
    check_small(load_dataset("mnist", tmp_path, download=True))


@pytest.mark.parametrize("file", IDX_FILES.values())
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[:-1], "bytes"),
        (lambda content: content + b"\0", "bytes"),
        (lambda content: b"", "bytes"),
        (lambda content: content[:3] + b"\x07" + content[4:], "starts with"),
        (lambda content: content[:7] + bytes([content[7] + 1]) + content[8:], "starts with"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "MD5"),
    ],
    ids=["truncated", "too long", "empty", "magic", "count", "bit"],
)
def test_damaged_file_is_named_with_the_ways_out(raw, tmp_path, file, damage, told):
    (raw / file).write_bytes(damage(CONTENT[file]))
    text = refused(tmp_path)
    assert str(raw / file) in text and told in text
    assert all(way in text for way in WAYS_OUT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: b"not gzip",
        lambda packed: b"",
        lambda packed: packed[:12] + b"\xff\xff\xff" + packed[15:],
    ],
    ids=["truncated", "foreign", "empty", "garbled"],
)
def test_damaged_compressed_file_is_named_with_the_ways_out(raw, tmp_path, damage):
    (raw / TRAIN_IMAGES).unlink()
    path = raw / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(damage(gzip.compress(CONTENT[TRAIN_IMAGES])))
    text = refused(tmp_path)
    assert str(path) in text
    assert all(way in text for way in WAYS_OUT)


@pytest.mark.parametrize("file", IDX_FILES.values())
def test_missing_file_is_named_with_the_ways_out(raw, tmp_path, file):
    (raw / file).unlink()
    text = refused(tmp_path)
    assert str(raw / file) in text and "missing" in text
    assert all(way in text for way in WAYS_OUT)


def test_missing_root_is_not_created(tmp_path, small_mnist):
    refused(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_label_out_of_range(raw, tmp_path, monkeypatch):
    """As in a data set of more classes, whose digest is not on record."""
    monkeypatch.setitem(CATALOGUE, "mnist", Entry("MNIST", SIZES, side=SIDE, folder="MNIST"))
    (raw / TRAIN_LABELS).write_bytes(CONTENT[TRAIN_LABELS][:-1] + b"\x0a")
    text = refused(tmp_path)
    assert str(raw / TRAIN_LABELS) in text and "label 10" in text
    assert all(way in text for way in WAYS_OUT)


def test_file_without_a_digest_on_record(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "mnist", Entry("MNIST", SIZES, side=SIDE, folder="MNIST"))
    check_small(load_dataset("mnist", tmp_path, download=False))


# What tells files apart ---------------------------------------------------------------------------


@pytest.fixture
def small_kmnist(monkeypatch):
    """Make the catalogue's KMNIST eight small images of which only the archives' MD5 is known."""
    digests = {f"{file}.gz": hashlib.md5(packed(file)).hexdigest() for file in CONTENT}
    entry = Entry("KMNIST", SIZES, side=SIDE, folder="KMNIST", archive_md5=digests)
    monkeypatch.setitem(CATALOGUE, "kmnist", entry)


def packed(file):
    return gzip.compress(CONTENT[file], mtime=0)


ALL_PUBLISHED = dict.fromkeys(CONTENT, PUBLISHED)
OTHER = CONTENT[TRAIN_LABELS][:-1] + bytes([CONTENT[TRAIN_LABELS][-1] ^ 1])
SHA256 = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENT.items()}


def test_published_files_are_known_as_such(small_kmnist, raw, tmp_path):
    """Absent, by their own digest, as archives, and unpacked beside the archives."""
    assert contents("mnist", tmp_path) == ALL_PUBLISHED
    assert contents("kmnist", tmp_path) == ALL_PUBLISHED
    folder = tmp_path / "KMNIST/raw"
    folder.mkdir(parents=True)
    for file in CONTENT:
        (folder / f"{file}.gz").write_bytes(packed(file))
    assert contents("kmnist", tmp_path) == ALL_PUBLISHED
    for file in CONTENT:
        (folder / file).write_bytes(CONTENT[file])
    assert contents("kmnist", tmp_path) == ALL_PUBLISHED
    (folder / TRAIN_LABELS).write_bytes(OTHER)
    other = hashlib.sha256(OTHER).hexdigest()
    assert contents("kmnist", tmp_path) == {**ALL_PUBLISHED, TRAIN_LABELS: other}


def test_other_files_are_known_by_their_content(small_kmnist, tmp_path):
    """Wherever they lie, packed or not, whatever their dates; one bit makes other files."""
    folder = tmp_path / "here/KMNIST/raw"
    folder.mkdir(parents=True)
    for file in CONTENT:
        (folder / file).write_bytes(CONTENT[file])
    assert contents("kmnist", tmp_path / "here") == SHA256
    (tmp_path / "here").rename(tmp_path / "there")
    folder = tmp_path / "there/KMNIST/raw"
    (folder / TRAIN_IMAGES).unlink()
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(CONTENT[TRAIN_IMAGES], 1))
    assert contents("kmnist", tmp_path / "there") == SHA256
    before = (folder / TRAIN_LABELS).stat()
    (folder / TRAIN_LABELS).write_bytes(OTHER)
    os.utime(folder / TRAIN_LABELS, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert contents("kmnist", tmp_path / "there")[TRAIN_LABELS] != SHA256[TRAIN_LABELS]


def test_wrong_file_is_refused_before_anything_runs(raw, tmp_path):
    (raw / TRAIN_LABELS).write_bytes(OTHER)
    with pytest.raises(UserError) as caught:
        contents("mnist", tmp_path)
    assert str(caught.value) == refused(tmp_path)
    (raw / TRAIN_LABELS).unlink()
    assert contents("mnist", tmp_path) == ALL_PUBLISHED
    with pytest.raises(UserError, match=r"cannot be read \(.*\)\. To get mnist"):
        contents("mnist", tmp_path / ("x" * 300))


def test_files_that_were_exchanged_since_the_plan(small_kmnist, tmp_path):
    folder = tmp_path / "KMNIST/raw"
    folder.mkdir(parents=True)
    for file in CONTENT:
        (folder / file).write_bytes(CONTENT[file])
    check_small(load_dataset("kmnist", tmp_path, download=False, expected=SHA256))
    for planned in ({**SHA256, TRAIN_LABELS: "0" * 64}, ALL_PUBLISHED):
        with pytest.raises(UserError, match=r"-ubyte is another file than snakemake saw when it"):
            load_dataset("kmnist", tmp_path, download=False, expected=planned)


def test_download_is_what_was_planned_before_it(small_kmnist, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "download", write_as_torchvision)
    planned = contents("kmnist", tmp_path)
    check_small(load_dataset("kmnist", tmp_path, download=True, expected=planned))
    assert contents("kmnist", tmp_path) == planned
    assert {path.name for path in files_below(tmp_path)} == {f"{file}.gz" for file in CONTENT}
    (tmp_path / "KMNIST/raw" / f"{TRAIN_LABELS}.gz").unlink()
    assert contents("kmnist", tmp_path) == planned


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def write_as_torchvision(kind, root, files=CONTENT):
    """Do what torchvision's download does: put archives and files below root/kind/raw."""
    folder = Path(root) / kind / "raw"
    folder.mkdir(parents=True)
    for file in files:
        (folder / f"{file}.gz").write_bytes(packed(file))
        (folder / file).write_bytes(CONTENT[file])


def test_download_moves_the_files_in(tmp_path, small_mnist, monkeypatch):
    """The four files come to lie in torchvision's layout, and nothing else is left."""
    monkeypatch.setattr(torchvision_datasets, "download", write_as_torchvision)
    root = tmp_path / "data"
    check_small(load_dataset("mnist", root, download=True))
    assert {path.name for path in files_below(root)} == set(CONTENT)
    assert {path.name for path in root.iterdir()} == {"MNIST"}
    check_small(load_dataset("mnist", root, download=False))


def test_download_fills_in_what_is_missing_only(raw, tmp_path, monkeypatch):
    (raw / TRAIN_IMAGES).unlink()
    kept = {path: path.stat().st_mtime_ns for path in files_below(tmp_path)}
    monkeypatch.setattr(torchvision_datasets, "download", write_as_torchvision)
    check_small(load_dataset("mnist", tmp_path, download=True))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def fail_at_once(kind, root):
    raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")


def fail_half_way(kind, root):
    write_as_torchvision(kind, root, files=[TRAIN_IMAGES])
    raise OSError("Network is unreachable")


def forget_a_file(kind, root):
    write_as_torchvision(kind, root, files=[file for file in CONTENT if file != TRAIN_LABELS])


@pytest.mark.parametrize("download", [fail_at_once, fail_half_way])
def test_failed_download_leaves_nothing_behind(tmp_path, small_mnist, monkeypatch, download):
    """Neither a file nor a part of one, and the next download can succeed."""
    monkeypatch.setattr(torchvision_datasets, "download", download)
    root = tmp_path / "data"
    text = refused(root, download=True)
    assert "could not be downloaded" in text and str(root / "MNIST/raw" / TRAIN_IMAGES) in text
    assert all(way in text for way in WAYS_OUT)
    assert files_below(root) == []
    monkeypatch.setattr(torchvision_datasets, "download", write_as_torchvision)
    check_small(load_dataset("mnist", root, download=True))


def test_incomplete_download_leaves_no_part_of_a_file(tmp_path, small_mnist, monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "download", forget_a_file)
    refused(tmp_path, download=True)
    assert all(path.read_bytes() == CONTENT[path.name] for path in files_below(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_download_into_a_read_only_folder(tmp_path, small_mnist, monkeypatch):
    monkeypatch.setattr(torchvision_datasets, "download", write_as_torchvision)
    tmp_path.chmod(0o500)
    text = refused(tmp_path / "data", download=True)
    tmp_path.chmod(0o700)
    assert "could not be downloaded" in text


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_names_classes_of_torchvision(name):
    assert hasattr(torchvision_datasets.DATASETS, CATALOGUE[name].folder)


@pytest.mark.mnist
@pytest.mark.skipif(
    not (Path(os.environ.get("BLINDSPOTS_DATA", "data")) / "MNIST" / "raw").is_dir(),
    reason="no MNIST/raw below BLINDSPOTS_DATA",
)
def test_mnist():
    """The real files: sizes, the first labels, and the published number of each digit."""
    data = load_dataset("mnist", os.environ.get("BLINDSPOTS_DATA", "data"), download=False)
    assert data.images["train"].shape == (60000, 1, 28, 28)
    assert data.images["test"].shape == (10000, 1, 28, 28)
    assert data.labels["train"][:5].tolist() == [5, 0, 4, 1, 9]
    assert data.labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.labels["test"]).tolist() == counts
