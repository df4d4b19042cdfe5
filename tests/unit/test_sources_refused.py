"""Mistakes in images of a user's own: one sentence each, before anything is written."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import sources
from PIL import Image
from safetensors.numpy import load_file
from sources import NAMES, prepared, study_of, synthetic

from blindspots.data.picture_lists import _natural
from blindspots.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder as working directory, with a data root in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path / "root"))
    return tmp_path


@pytest.fixture
def refused(here, schema):
    """Return the function from a data set to the sentence by which a study on it is refused."""

    def sentence(dataset):
        with pytest.raises(UserError) as caught:
            study_of(dataset, schema)
        text = str(caught.value)
        first, _, rest = text.partition("\n")
        if first == "the configuration has a mistake:":
            first, rest = rest.removeprefix("  - "), ""
        assert not rest, text
        return first

    return sentence


# Pictures ----------------------------------------------------------------------------------------


def spoilt(change, **keys):
    """Return the function that writes class folders, changes them, and returns the data set."""

    def write():
        dataset = sources.as_folder(synthetic(), Path("mine"))
        change(Path("mine"))
        return {**dataset, **keys}

    return write


def listing(test=None, train=None, **keys):
    """Return the function that writes CSV files, other texts for some, and returns the data set."""

    def write():
        dataset = sources.as_tables(synthetic(), Path("mine"))
        for name, text in (("test", test), ("train", train)):
            if text is not None:
                data = text if isinstance(text, bytes) else text.encode()
                Path(f"mine/{name}.csv").write_bytes(data)
        return {**dataset, **keys}

    return write


def nothing(mine):
    """Change nothing."""


def small(mine, path="train/dog/00003.png"):
    Image.new("RGB", (20, 30)).save(mine / path)


def odd(mine):
    os.rename(os.fsencode(mine / "train/cat/00000.png"), os.fsencode(mine / "train/cat/\udcff.png"))


LINE = "images/test0.png"
PICTURES = {
    "no folder": (lambda: {"folder": "mine"}, "mine is missing; give the folder of the pictures"),
    "a file": (
        spoilt(nothing, folder="mine/train/cat/00000.png"),
        "00000.png is not a folder; give",
    ),
    "no test set": (
        spoilt(lambda mine: shutil.rmtree(mine / "test")),
        "mine/test is missing; put the pictures there",
    ),
    "no training set of that name": (spoilt(nothing, train="trian"), "mine/trian is missing; put"),
    "no class folders": (
        spoilt(lambda mine: [shutil.rmtree(p) for p in (mine / "train").iterdir()]),
        "mine/train holds no folder; put the pictures of each class into one there",
    ),
    "empty class": (
        spoilt(lambda mine: (mine / "train/gnu").mkdir()),
        "mine/train/gnu holds no picture; put the class's there, or remove the folder",
    ),
    "empty class in test": (
        spoilt(lambda mine: [path.unlink() for path in (mine / "test/emu").iterdir()]),
        "mine/test/emu holds no picture",
    ),
    "class in test alone": (
        spoilt(lambda mine: shutil.copytree(mine / "test/cat", mine / "test/gnu")),
        "mine/test/gnu is a class that has no folder in mine/train; give it training pictures",
    ),
    "one class": (
        spoilt(lambda mine: [shutil.rmtree(mine / b / n) for b in BASES for n in NAMES[1:]]),
        "mine/train has a single class; a classifier needs two at least",
    ),
    "picture beside the classes": (
        spoilt(lambda mine: small(mine, "train/a.png")),
        "mine/train/a.png is a file where a folder for each class is expected; take it out",
    ),
    "no picture": (
        spoilt(lambda mine: (mine / "train/cat/notes.txt").write_text("")),
        "mine/train/cat/notes.txt is no picture (.png, .jpg, .jpeg, .bmp, .webp); take it out",
    ),
    "folder in a class": (
        spoilt(lambda mine: (mine / "train/cat/more.png").mkdir()),
        "mine/train/cat/more.png is no picture",
    ),
    "name of no characters": (spoilt(odd), "the name has control characters; rename it"),
    "class of no characters": (
        spoilt(lambda mine: [(mine / b / "cat").rename(mine / b / "a\nb") for b in BASES]),
        r"the name 'a\nb' of a folder below mine/train or mine/test has control characters",
    ),
    "broken picture": (
        spoilt(lambda mine: (mine / "train/cat/00000.png").write_bytes(b"\x89PNG\r\n\x1a\n...")),
        "mine/train/cat/00000.png is truncated, damaged or no picture (",
    ),
    "transparent picture": (
        spoilt(lambda mine: Image.new("RGBA", (32, 32)).save(mine / "train/cat/00000.png")),
        "mine/train/cat/00000.png has transparent pixels; put it on a background",
    ),
    "16 bits": (
        spoilt(lambda mine: Image.new("I;16", (32, 32)).save(mine / "test/cat/00000.png")),
        "mine/test/cat/00000.png has pixels of kind I;16; save it with 8 bits a channel",
    ),
    "link to nothing": (
        spoilt(lambda mine: (mine / "train/cat/x.png").symlink_to("nowhere")),
        "mine/train/cat/x.png is missing; put the picture there",
    ),
    "another size": (
        spoilt(small),
        "mine/train/dog/00003.png is 30 high and 20 wide, mine/train/cat/00000.png 32 and 32; say "
        "by `resize` and `crop` how they become one size",
    ),
    "another size when resized": (
        spoilt(small, resize=16),
        "is 24 high and 16 wide when it is resized, mine/train/cat/00000.png 16 and 16; say by "
        "`crop`",
    ),
    "smaller than the crop": (
        spoilt(small, crop=24),
        "is 30 high and 20 wide, less than the crop of 24 x 24; say by `resize` how long",
    ),
    "resized, and smaller than the crop": (
        spoilt(nothing, resize=16, crop=[24, 8]),
        "00000.png is 16 high and 16 wide when it is resized, less than the crop of 24 x 8",
    ),
    # labels and names
    "no column path": (listing("file,label\na.png,0\n"), "mine/test.csv has no column path; name"),
    "no labels": (listing(f"path\n{LINE}\n"), "has no column label and class_index; give one"),
    "two columns of labels": (
        listing(f"path,label,class_index\n{LINE},0,0\n"),
        "mine/test.csv has both columns label and class_index; give one",
    ),
    "empty file": (listing(""), "mine/test.csv has no column path"),
    "no line": (listing("path,label\n"), "mine/test.csv lists no pictures; write one in each line"),
    "no text": (listing(b"path,label\n\xff\xfe,0\n"), "mine/test.csv is no CSV file in UTF-8 ("),
    "quotes": (listing('path,label\n"a,0\n'), "mine/test.csv is no CSV file in UTF-8 ("),
    "label in words": (
        listing(f"path,label\n{LINE},cat\n"),
        "mine/test.csv, line 2, has the label 'cat'; give a whole number from 0",
    ),
    "no label": (listing(f"path,label\n{LINE}\n"), "mine/test.csv, line 2, has the label ''; give"),
    "negative label": (
        listing(f"path,label\n{LINE},-1\n"),
        "line 2, has the label '-1'; give a whole",
    ),
    "fraction": (listing(f"path,class_index\n{LINE},1.0\n"), "has the class_index '1.0'; give a"),
    "huge label": (listing(f"path,label\n{LINE},{10**30}\n"), "line 2, has the label '1000"),
    "label out of range": (
        listing(f"path,label\n{LINE},7\n", classes=7),
        "mine/test.csv, line 2, has the label 7, but there are 7 classes; number them from 0",
    ),
    "label without training images": (
        listing(f"path,label\n{LINE},7\n"),
        "mine/train.csv and mine/test.csv: class 4 of 8 has no picture; number the classes from 0",
    ),
    "gap": (
        listing(f"path,label\n{LINE},4\n", f"path,label\n{LINE},0\nimages/test1.png,2\n"),
        "class 1 of 5 has no picture; number the classes from 0 without gaps, or say by `classes`",
    ),
    "class without training images": (
        listing(train=f"path,label\n{LINE},0\nimages/test1.png,1\n"),
        "mine/train.csv: class 2 of 4 has no picture",
    ),
    "no path": (listing("path,label\n ,0\n"), "line 2, has the path ''; write where the picture"),
    "whole path": (
        listing("path,label\n/a.png,0\n"),
        "has the path '/a.png'; write where the pict",
    ),
    "path to nothing": (
        listing("path,label\nimages/none.png,0\n"),
        "mine/images/none.png is missing; put the picture there, or take it out of the list",
    ),
    "twice": (
        listing(f"path,label\n{LINE},0\n{LINE},1\n"),
        "mine/test.csv, line 3, lists images/test0.png for the second time; take one out",
    ),
    "two names": (
        listing(f"path,label,name\n{LINE},0,cat\nimages/test1.png,0,ape\n", classes=4),
        "mine/test.csv, line 3, names class 0 'ape', which was 'cat' before; give each class one",
    ),
    "no file of classes": (
        spoilt(nothing, classes="names.txt"),
        "mine/names.txt is missing; put the names of the classes there, one a line",
    ),
    "classes that have no name": (
        spoilt(lambda mine: (mine / "names.txt").write_text("cat\ndog\n"), classes="names.txt"),
        "mine/train/emu is no class by mine/names.txt; rename it, or correct `classes`",
    ),
    "name twice in the file": (
        spoilt(lambda mine: (mine / "names.txt").write_text("a\nb\na\n"), classes="names.txt"),
        "mine/names.txt: the name 'a' is twice in its lines; give each class one",
    ),
    "empty line in the file": (
        spoilt(lambda mine: (mine / "names.txt").write_text("a\n\nb\n"), classes="names.txt"),
        "mine/names.txt: the name of class 1 in its lines is empty; give it one",
    ),
    "names in no text": (
        spoilt(lambda mine: (mine / "names.txt").write_bytes(b"\xff"), classes="names.txt"),
        "mine/names.txt is no text in UTF-8; write the name of one class a line",
    ),
    "folders that are no numbers": (
        spoilt(nothing, classes=4),
        "mine/train/cat is no class by the numbers from 0 to 3; rename it, or correct `classes`",
    ),
    # keys
    "one class given": (spoilt(nothing, classes=1), "dataset.classes must be at least 2, not 1"),
    "four channels": (spoilt(nothing, channels=4), "dataset.channels is 4; known: 1, 3"),
    "crop of three": (spoilt(nothing, crop=[1, 2, 3]), "dataset.crop"),
    "no side": (spoilt(nothing, resize=0), "dataset.resize must be at least 1, not 0"),
    "unknown key": (
        spoilt(nothing, rezise=3),
        "dataset.rezise is not a known key (did you mean res",
    ),
    "two sources": (spoilt(nothing, npz="a.npz"), "dataset.npz is not a known key"),
}
BASES = ("train", "test")


@pytest.mark.parametrize("case", PICTURES)
def test_mistake_in_pictures(refused, case):
    write, said = PICTURES[case]
    dataset = write()
    before = sorted(Path().rglob("*"))
    text = refused(dataset)
    assert said in text
    assert [p for p in sorted(Path().rglob("*")) if ".snakemake" not in p.parts] == before


def test_pictures_that_change_after_the_plan(here, schema):
    """The step reads no other than those that were planned for, and writes nothing."""
    for change, said in (
        (small, "00003.png is another file than snakemake saw"),
        (
            lambda mine: shutil.copy(mine / "test/cat/00000.png", mine / "train/cat"),
            OTHERS,
        ),
        (lambda mine: (mine / "train/cat/00000.png").unlink(), OTHERS),
        (lambda mine: (mine / "train/cat/00000.png").write_bytes(b"..."), "damaged or no picture"),
    ):
        study = study_of(sources.as_folder(synthetic(), here / "mine"), schema)
        change(here / "mine")
        done = prepared(study, here / "data.safetensors")
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and not (here / "data.safetensors").exists()
        shutil.rmtree(here / "mine")


OTHERS = "the pictures are others than snakemake saw when it planned this job"


def test_truncated_photograph_is_told_by_the_step(here, schema):
    """Its header, which planning reads, is whole."""
    sources.as_folder(synthetic(sides=(200, 200)), here / "mine", suffix="jpg", quality=95)
    path = here / "mine/test/emu/00004.jpg"
    path.write_bytes(path.read_bytes()[:-2000])
    done = prepared(study_of({"folder": "mine"}, schema), here / "data.safetensors")
    assert done.returncode == 1 and "mine/test/emu/00004.jpg is truncated" in done.stderr
    assert "Traceback" not in done.stderr and not (here / "data.safetensors").exists()


def test_order_of_classes():
    """Numbers by their value and before names, which are in the order of their characters."""
    names = ["b", "10", "9", "B", "a10", "a9", "²", "09"]
    assert sorted(names, key=_natural) == ["09", "9", "10", "B", "a10", "a9", "b", "²"]


def test_folders_that_are_numbers(here, schema):
    """With a number of classes they are labels; without, classes in their order."""
    arrays = synthetic() | {"classes": np.array(["2", "11", "30", "100"])}
    dataset = sources.as_folder(arrays, here / "mine")
    plain, given = study_of(dataset, schema), study_of({**dataset, "classes": 200}, schema)
    assert plain.facts.names == ["2", "11", "30", "100"] and plain.facts.classes == 4
    assert given.facts.names is None and given.facts.classes == 200
    assert prepared(given, here / "data.safetensors").returncode == 0
    labels = load_file(here / "data.safetensors")["train_labels"]
    assert labels.tolist() == [2, 2, 2, 11, 11, 11, 30, 30, 30, 100, 100, 100]


def test_names_from_a_file(here, schema):
    dataset = sources.as_folder(synthetic(), here / "mine")
    (here / "mine/names.txt").write_text("gnu\nfox\nemu\ndog\ncat\n")
    facts = study_of({**dataset, "classes": "names.txt"}, schema).facts
    assert facts.names == ["gnu", "fox", "emu", "dog", "cat"] and facts.classes == 5


# Torchvision's layout ----------------------------------------------------------------------------


class Runs:
    """What runs code when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("made",))


def batch(**changes):
    held = {"labels": [0, 1, 2, 3], "data": np.zeros((4, 3072), np.uint8)} | changes
    return pickle.dumps({key: value for key, value in held.items() if value is not None})


def pickled(value):
    return pickle.dumps(value)


BATCH, META = "cifar-10-batches-py/data_batch_2", "cifar-10-batches-py/batches.meta"
CIFAR = {
    "code": (BATCH, batch(labels=Runs()), "asks for posix.mkdir, which may run code; give the"),
    "code in the names": (META, pickled({"label_names": [Runs()]}), "asks for posix.mkdir"),
    "a function of numpy": (
        BATCH,
        batch(data=np.random.default_rng(0)),
        "which may run code",
    ),
    "cut off": (BATCH, batch()[:-9], "is truncated or damaged ("),
    "no pickle": (BATCH, b"text", "is truncated or damaged ("),
    "nothing": (BATCH, b"", "is truncated or damaged ("),
    "a list": (BATCH, pickled([1]), "holds no mapping; give the published file"),
    "no images": (BATCH, batch(data=None), "holds no images of type uint8"),
    "images as list": (BATCH, batch(data=[[0] * 3072] * 4), "holds no images of type uint8"),
    "fractions": (BATCH, batch(data=np.zeros((4, 3072))), "holds no images of type uint8"),
    "larger images": (
        BATCH,
        batch(data=np.zeros((4, 3 * 64 * 64), np.uint8)),
        "pixels of shape (4,",
    ),
    "no labels": (BATCH, batch(labels=None), "holds 0 labels and pixels of shape (4, 3072)"),
    "fewer labels": (BATCH, batch(labels=[0, 1]), "holds 2 labels and pixels of shape (4, 3072)"),
    "labels in words": (
        BATCH,
        batch(labels=list("abcd")),
        "holds labels that are no whole numbers",
    ),
    "negative labels": (BATCH, batch(labels=[0, 1, 2, -1]), "holds labels that are no whole numb"),
    "label out of range": (
        BATCH,
        batch(labels=[0, 1, 2, 4]),
        f"has a label 4, but there are 4 classes in {META}; correct one of the two",
    ),
    "class without training images": (
        META,
        pickled({"label_names": [*NAMES, "gnu"]}),
        "class 4 of 5 has no training image; give each some",
    ),
    "no names": (META, pickled({}), "holds no list label_names of two names or more"),
    "names of no text": (META, pickled({"label_names": [1, 2]}), "holds no list label_names"),
    "name twice": (META, pickled({"label_names": ["a", "a"]}), "the name 'a' is twice in label_na"),
}


@pytest.mark.parametrize("case", CIFAR)
def test_mistake_in_the_layout_of_torchvision(here, refused, case):
    path, content, said = CIFAR[case]
    dataset = sources.as_cifar(synthetic(), here / "root")
    (here / "root" / path).write_bytes(content)
    text = refused(dataset)
    assert said in text and path.partition("/")[0] in text
    assert not Path("made").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(here, schema, protocol):
    dataset = sources.as_cifar(synthetic(), here / "root", protocol)
    assert study_of(dataset, schema).facts.names == NAMES


def test_set_that_torchvision_has_and_we_have_not(refused):
    text = refused({"torchvision": "CIFAR"})
    assert text == (
        "dataset.torchvision is 'CIFAR'; known: CIFAR10, CIFAR100, SVHN (did you mean CIFAR10?)"
    )


# A function --------------------------------------------------------------------------------------

HEAD = """
import numpy as np

def arrays(**changes):
    images = np.zeros((6, 4, 4, 3), np.uint8)
    held = dict(train_images=images, train_labels=[0, 1] * 3)
    return held | dict(test_images=images, test_labels=np.arange(6) % 2) | changes

def load():
    return """
FUNCTIONS = {
    "no module": (
        None,
        "no Python file my_data.py for 'my_data:load': put it beside",
    ),
    "mistake": ("def load(:\n", "my_data.py, line 1, is not valid Python"),
    "no function": ("def lode():\n    pass\n", "my_data:load: the module has no load; correct the"),
    "library that is not there": (
        "import no_such_library\n\ndef load():\n    pass\n",
        "my_data:load failed: ModuleNotFoundError: No module named 'no_such_library' (line 1)",
    ),
    "failure": (HEAD + "arrays()['none']", "my_data:load failed: KeyError: 'none' (line 10)"),
    "exit": ("import sys\n\ndef load():\n    sys.exit(3)\n", "my_data:load failed: SystemExit: 3"),
    "end": (
        "import os\n\ndef load():\n    os.write(2, b'no licence')\n    os._exit(0)\n",
        "the function my_data:load ended its process (no licence); correct it",
    ),
    "other options": (
        "def load(number):\n    pass\n",
        "my_data:load failed: TypeError: load() miss",
    ),
    "nothing": (HEAD + "None", "my_data:load returned NoneType; return a dict with train_images"),
    "pair": (HEAD + "(1, 2)", "my_data:load returned tuple; return a dict with"),
    "lack": (
        HEAD + "{'train_images': 1}",
        "returned no train_labels or test_images or test_labels; return",
    ),
    "ragged": (HEAD + "arrays(train_labels=[[1], [2, 3]])", "train_labels is no array ("),
    "objects": (
        HEAD + "arrays(train_images=np.array([{}] * 6))",
        "train_images is no array of uint8 but of Python objects; return one",
    ),
    "fractions": (
        HEAD + "arrays(test_images=np.zeros((6, 4, 4, 3)))",
        "is of type float64, not uint",
    ),
    "channels": (HEAD + "arrays(test_images=np.zeros((6, 4, 4, 2), 'u1'))", "2 channels"),
    "labels": (HEAD + "arrays(test_labels=[0] * 5)", "there are 6 test_images and 5 test_labels"),
    "names": (
        HEAD + "arrays(classes=['a', 'a'])",
        "my_data:load: the name 'a' is twice in classes",
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_mistake_in_a_function(here, refused, case):
    code, said = FUNCTIONS[case]
    if code is not None:
        (here / "my_data.py").write_text(code)
    assert said in refused("my_data:load")


def test_reference_that_is_none(refused):
    assert "dataset.module: 'my data:load' does not have the form" in refused("my data:load")


def test_tuple_with_and_without_names(here, schema):
    code = "tuple(arrays().values()){}"
    found = []
    for names in ("", " + (['a', 'b'],)"):
        (here / "my_data.py").write_text(HEAD + code.format(names))
        found.append(study_of("my_data:load", schema).facts)
    assert [facts.names for facts in found] == [None, ["a", "b"]]
    assert found[0].shape == (3, 4, 4) and found[0].sizes == {"train": 6, "test": 6}
