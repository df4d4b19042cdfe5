"""What planning keeps of files: for as long as they and their readers are the same."""

import json
import os

import pytest

from blindspots.data import index
from blindspots.data.index import FOLDER, Index, stamp


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """A file in the working directory that counts as settled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index, "UNSETTLED", 0)
    (tmp_path / "a").write_text("text")
    return tmp_path / "a"


def keep(value, name="a", **options):
    with Index("some", **options) as held:
        held.keep(name, [stamp("a")], value)


def known(name="a", **options):
    return Index("some", **options).get(name, [stamp("a")])


def test_what_is_kept_is_known(file):
    assert known() is None
    keep([1, "two", None])
    assert known() == [1, "two", None] and known("b") is None
    assert Index("other").get("a", [stamp("a")]) is None


def test_a_changed_file_is_not_known(file):
    keep(1)
    before = stamp(file)
    while stamp(file) == before:  # file systems count in ticks
        file.write_text("TEXT")  # of the same length
        os.utime(file, ns=(before[1], before[1]))
    assert known() is None
    assert Index("some").get("a", []) is None


def test_other_readers_and_libraries_know_nothing(file):
    keep(1, readers=["a"], packages=["numpy"])
    assert known(readers=["a"], packages=["numpy"]) == 1
    assert known(readers=["a"]) is None and known(packages=["numpy"]) is None
    file.write_text("other code")
    with Index("some", readers=["a"], packages=["numpy"]) as held:
        assert held._entries == {}


def test_unsettled_file_is_not_kept(monkeypatch):
    monkeypatch.setattr(index, "UNSETTLED", 3_600_000_000_000)
    keep(1)
    assert known() is None and not FOLDER.exists()


def test_two_at_once_do_no_harm():
    """The last to finish counts; what the other knew is read again."""
    with Index("some") as one, Index("some") as other:
        one.keep("a", [stamp("a")], 1)
        other.keep("b", [stamp("a")], 2)
    assert known("a") == 1 and known("b") is None
    assert [path.suffix for path in FOLDER.iterdir()] == [".json"]


def test_what_was_known_before_a_mistake_is_kept():
    with pytest.raises(ValueError, match="mistake"), Index("some") as held:
        held.keep("a", [stamp("a")], 1)
        raise ValueError("mistake")
    assert known() == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "1", '{"of": 1}', '{"of": [], "entries": []}'])
def test_damaged_index_knows_nothing(content):
    keep(1)
    (path,) = FOLDER.iterdir()
    path.write_text(content)
    assert known() is None
    keep(2)
    assert known() == 2


def test_entries_of_another_form_know_nothing():
    keep(1)
    (path,) = FOLDER.iterdir()
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | {"entries": [1]}))
    assert known() is None


def test_names_that_are_no_text(file):
    """As paths may be."""
    with Index("some \udcff") as held:
        held.keep("\udcff", [stamp("a")], 1)
    assert Index("some \udcff").get("\udcff", [stamp("a")]) == 1
