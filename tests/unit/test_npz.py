"""Data from a user's NumPy archive: what is known of it, how it is read, and what is refused."""

import hashlib
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from blindspots.data import npz
from blindspots.data.npz import facts, load
from blindspots.errors import UserError
from blindspots.study.study import Study

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CAUGHT = {"capture_output": True, "text": True, "check": True}
CIFAR = Path(os.environ.get("BLINDSPOTS_DATA", "data")) / "cifar10-subset.npz"
TRAIN, TEST, SIDES, CLASSES = 8, 5, (4, 6), 4


def small(channels=3, **changes):
    """Return the arrays of a small data set, with changes; None leaves an array out."""
    draw = np.random.default_rng(0)
    last = (channels,) if channels else ()
    arrays = {
        "train_images": draw.integers(0, 256, (TRAIN, *SIDES, *last), dtype=np.uint8),
        "train_labels": np.arange(TRAIN) % CLASSES,
        "test_images": draw.integers(0, 256, (TEST, *SIDES, *last), dtype=np.uint8),
        "test_labels": np.arange(TEST) % CLASSES,
    }
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


@pytest.fixture
def save(tmp_path):
    """Write arrays as an archive, and return its path."""

    def write(arrays, write=np.savez, name="pets.npz"):
        write(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def refused(path, reader=facts):
    """Return the sentence by which an archive is refused."""
    with pytest.raises(UserError) as caught:
        reader(path)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(path))
    return text


# What is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_facts_and_arrays(save, channels, write):
    arrays = small(channels)
    path = save(arrays, write)
    found = facts(path)
    assert found.title == "pets"
    assert found.sizes == {"train": TRAIN, "test": TEST}
    assert found.shape == (channels or 1, *SIDES)
    assert found.classes == CLASSES and found.names is None
    assert found.maximum == 255
    assert found.content == hashlib.sha256(path.read_bytes()).hexdigest()
    images, labels = load(path, found.content)
    for base in ("train", "test"):
        wanted = arrays[f"{base}_images"]
        assert images[base].shape == (len(wanted), *found.shape)
        assert images[base].dtype == np.uint8 and images[base].flags.c_contiguous
        wanted = wanted[..., None] if channels is None else wanted
        assert np.array_equal(np.moveaxis(images[base], 1, -1), wanted)
        assert labels[base].dtype == np.int64
        assert np.array_equal(labels[base], arrays[f"{base}_labels"])


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "<u4", ">i8", "u8"])
def test_labels_of_every_integer_type(save, dtype):
    labels = small()["train_labels"].astype(dtype)
    path = save(small(train_labels=labels))
    _, read = load(path, facts(path).content)
    assert read["train"].dtype == np.int64 and read["train"].tolist() == labels.tolist()


def test_order_of_the_values_in_the_file_does_not_count(save):
    images = small()["train_images"]
    path = save(small(train_images=np.asfortranarray(images)))
    read, _ = load(path, facts(path).content)
    assert np.array_equal(np.moveaxis(read["train"], 1, -1), images)


def test_names_and_arrays_that_are_not_used(save):
    names = ["cat", "Zürich's dog", "猫", "C:\\x <b>"]
    unused = np.array([{}, None], dtype=object)
    found = facts(save(small(classes=np.array(names), pickled=unused)))
    assert found.classes == CLASSES and found.names == names


def test_more_names_than_test_labels(save):
    """A class may have no test image, and the test labels may lack the largest."""
    found = facts(save(small(test_labels=np.zeros(TEST, int))))
    assert found.classes == CLASSES


def test_title_is_one_line(save):
    assert facts(save(small(), name="a\n b\x1b[1m.c.npz")).title == "a b?[1m.c"


def test_planning_reads_no_pixels_and_no_torch(save):
    """Pixels whose checksum is wrong are found when they are read, not before."""
    many = np.zeros((TRAIN, 99, 99), np.uint8)
    path = save(small(train_images=many, test_images=many[:TEST]))
    content = path.read_bytes()
    damaged = content.replace(bytes(many.size), bytes(many.size - 1) + b"1", 1)
    assert damaged != content
    path.write_bytes(damaged)
    found = facts(path)
    assert "damaged" in refused(path, lambda path: load(path, found.content))
    code = "import sys, blindspots.data.npz; print(*{'torch', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, **CAUGHT)
    assert ran.stdout.split() == []


def test_file_that_was_exchanged_since_the_plan(save):
    planned = facts(save(small())).content
    path = save(small(test_labels=np.zeros(TEST, int)))
    text = refused(path, lambda path: load(path, planned))
    assert "another file than snakemake saw" in text


# What is refused ----------------------------------------------------------------------------------

IMAGES, LABELS = small()["train_images"], small()["train_labels"]
OBJECTS = np.array([[1], [2, 3]], dtype=object)
WRONG = {
    "no array": ({"test_labels": None}, ["no array test_labels", "savez"]),
    "no arrays": ({"train_images": None, "test_labels": None}, ["train_images or test_labels"]),
    "fractions": ({"train_images": IMAGES / 255}, ["float64", "multiply by 255", "round"]),
    "wide integers": ({"test_images": IMAGES.astype(int)}, ["int64, not uint8", "0 to 255"]),
    "signed bytes": ({"train_images": IMAGES.astype("i1")}, ["int8, not uint8"]),
    "black and white": ({"train_images": IMAGES > 127}, ["bool, not uint8", "multiply by 255"]),
    "flat": ({"train_images": IMAGES.reshape(TRAIN, -1)}, [f"({TRAIN}, 72)", "(N, H, W)"]),
    "no image": ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, ["test_images is empty"]),
    "no pixel": ({"train_images": IMAGES[:, :0]}, ["train_images is empty", "(8, 0, 6, 3)"]),
    "no label": ({"train_labels": LABELS[:0]}, ["train_labels is empty"]),
    "a single number": ({"train_labels": np.array(3)}, ["shape (), not (N,)"]),
    "channels first": (
        {"train_images": IMAGES.transpose(0, 3, 1, 2)},
        ["(8, 3, 4, 6)", "channels first", "transpose(0, 2, 3, 1)"],
    ),
    "one channel, first": (
        {"train_images": IMAGES[..., 0][:, None]},
        ["channels first", "transpose(0, 2, 3, 1)"],
    ),
    "two channels": ({"train_images": IMAGES[..., :2]}, ["2 channels", "one, grey, or three"]),
    "opacity": ({"train_images": np.insert(IMAGES, 3, 0, 3)}, ["4 channels", "[..., :3]"]),
    "fewer labels": ({"train_labels": LABELS[:-1]}, ["8 train_images and 7 train_labels"]),
    "fewer images": ({"test_images": IMAGES[:2]}, ["2 test_images and 5 test_labels"]),
    "other sides": (
        {"test_images": IMAGES[:TEST, :, 1:]},
        ["4 x 6 with 3 channels", "4 x 5 with 3 channels", "alike"],
    ),
    "other channels": ({"test_images": IMAGES[:TEST, ..., 0]}, ["4 x 6 with 1 channel;"]),
    "fractional labels": ({"train_labels": LABELS / 1}, ["train_labels is of type float64"]),
    "names as labels": ({"test_labels": np.array(["cat"] * TEST)}, ["<U3", "number the classes"]),
    "one-hot labels": ({"train_labels": np.eye(TRAIN, dtype=int)}, ["(8, 8), not (N,)"]),
    "negative label": ({"test_labels": LABELS[:TEST] - 1}, ["test_labels has a label -1"]),
    "numbered from 1": ({"train_labels": LABELS + 1}, ["class 0 of 5", "without gaps"]),
    "a gap": ({"train_labels": np.where(LABELS == 2, 1, LABELS)}, ["class 2 of 4"]),
    "only among test labels": ({"test_labels": LABELS[:TEST] + 2}, ["class 4 of 6"]),
    "a huge label": ({"train_labels": np.where(LABELS == 3, 10**15, LABELS)}, ["class 3 of 1000"]),
    "one class": ({"train_labels": LABELS * 0, "test_labels": LABELS[:TEST] * 0}, ["single class"]),
    "too few names": ({"classes": np.array(["cat", "dog", "emu"])}, ["label 3", "3 names"]),
    "name twice": ({"classes": np.array(["cat", "dog", "cat", "emu"])}, ["'cat' is twice"]),
    "empty name": ({"classes": np.array(["cat", "", "dog", "emu"])}, ["class 1 in", "is empty"]),
    "blank name": ({"classes": np.array(["cat", "dog", "emu", "  "])}, ["class 3 in", "is empty"]),
    "no names": ({"classes": np.array([], "U3")}, ["classes is empty"]),
    "two lines": ({"classes": np.array(["a\nb", "c", "d", "e"])}, [r"'a\nb'", "control char"]),
    "escape": ({"classes": np.array(["\x1b[1m", "c", "d", "e"])}, [r"'\x1b[1m'", "control char"]),
    "numbers as names": ({"classes": np.arange(4)}, ["int64", "array of str"]),
    "bytes as names": ({"classes": np.array([b"a", b"b", b"c", b"d"])}, ["|S1", "array of str"]),
    "one string": ({"classes": np.array("abcd")}, ["shape ()", "array of str"]),
    "pickled images": ({"train_images": OBJECTS}, ["train_images is a pickle", "run code"]),
    "pickled labels": ({"test_labels": OBJECTS}, ["test_labels is a pickle"]),
    "pickled names": ({"classes": np.array(list("abcd"), object)}, ["classes is a pickle", "str"]),
}


def test_named_classes_need_no_image(save):
    """Photographs for a network of a thousand classes are of some of them."""
    names = [f"class {number}" for number in range(1000)]
    found = facts(save(small(classes=np.array(names), train_labels=LABELS * 200)))
    assert found.classes == 1000 and found.names == names


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays(save, case):
    changes, parts = WRONG[case]
    text = refused(save(small(**changes)))
    assert all(part in text for part in parts), text
    assert ";" in text  # the way out


def test_no_file_no_archive(tmp_path):
    path = tmp_path / "none.npz"
    assert "is missing" in refused(path)
    assert "not a file" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / ("x" * 300))
    np.save(tmp_path / "one.npy", IMAGES)
    for content in (b"", b"P", b"text", (tmp_path / "one.npy").read_bytes()):
        path.write_bytes(content)
        assert "truncated, damaged or no .npz file" in refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(save):
    path = save(small())
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refused(path)


@pytest.mark.parametrize("lack", [1, 20, 500])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_truncated_file(save, write, lack):
    path = save(small(), write)
    path.write_bytes(path.read_bytes()[:-lack])
    assert "truncated" in refused(path)


def test_array_shorter_than_its_header_says(save):
    """As of a program that was stopped while it wrote, inside an archive that is whole."""
    whole = BytesIO()
    np.save(whole, IMAGES)
    path = save(small(train_images=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_images.npy", whole.getvalue()[:-1])
    assert "train_images has 575 bytes" in refused(path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_damage_never_shows_a_traceback(save, write):
    """Whichever byte is changed, the file is read or refused; a sample of them."""
    path = save(small(classes=np.array(["cat", "dog", "emu", "fox"])), write)
    content = path.read_bytes()
    places = np.random.default_rng(0).choice(len(content), 200, replace=False)
    refusals = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x01 if place % 2 else 0x80
        path.write_bytes(damaged)
        try:
            load(path, facts(path).content)
        except UserError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > len(places) / 2


@pytest.mark.skipif(not CIFAR.is_file(), reason="no cifar10-subset.npz below BLINDSPOTS_DATA")
def test_cifar():
    """Photographs with names and arrays that are not used."""
    found = facts(CIFAR)
    assert found.sizes == {"train": 6000, "test": 1000} and found.shape == (3, 32, 32)
    assert found.classes == 10 and found.names[:3] == ["airplane", "automobile", "bird"]
    images, labels = load(CIFAR, found.content)
    assert images["train"].shape == (6000, 3, 32, 32)
    assert np.bincount(labels["train"])[1] == 2366
    # The first test image is the well-known cat.
    assert found.names[labels["test"][0]] == "cat"
    assert images["test"][0, :, 0, 0].tolist() == [158, 112, 49]


def test_planning_reads_an_archive_once(save, monkeypatch, config, schema, reference):
    """And another one in its place anew."""
    read = []
    monkeypatch.setattr(npz, "facts", lambda path: read.append(path) or facts(path))
    config |= {"dataset": {"npz": str(save(small()))}, "run": ["cross_training_set"]}
    del config["models"]["conv"]  # the images cannot be halved so often
    for name in ("frames", "amplification"):
        config["experiments"].pop(name)
    specs = []
    for arrays in (small(), small(channels=0)):
        save(arrays)
        study = Study(config, schema, reference, [])
        specs.append(study.job("prepare_data").settings)
    assert len(read) == 2
    one, other = (spec.pop("content") for spec in specs)
    assert one != other and specs[0] == specs[1] and specs[0]["dataset"] == "npz"
