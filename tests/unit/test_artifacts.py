"""Files that are written whole or not at all, and checked when read."""

import errno
import json
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from blindspots import artifacts
from blindspots.errors import UserError

PROVENANCE = {"job": "a" * 64, "spec": {"seed": 0}, "code": "c"}


@pytest.fixture
def tensors():
    generator = np.random.default_rng(0)
    return {
        "images": generator.random((3, 1, 2, 2), dtype=np.float32),
        "labels": np.array([3, 1, 2]),
        "success": np.array([True, False, True]),
        "pixels": generator.integers(0, 256, (2, 3), dtype=np.uint8),
        "empty": np.zeros((0, 4), np.float32),
    }


@pytest.fixture
def path(tmp_path, tensors):
    path = tmp_path / "set.safetensors"
    artifacts.write_tensors(path, tensors, PROVENANCE)
    return path


def refused(function, *arguments):
    """Return the text of the UserError that a function raises."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


# Identities --------------------------------------------------------------------------------------


def test_canonical_json_is_the_same_for_every_order_of_keys():
    one = artifacts.canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "x"}})
    assert one == '{"a":{"c":"x","d":true},"b":[1,2.5,null]}'
    assert one == artifacts.canonical_json({"a": {"c": "x", "d": True}, "b": [1, 2.5, None]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_has_no_nan(value):
    with pytest.raises(ValueError):
        artifacts.canonical_json({"rms": value})


def test_job_digest_depends_on_specification_and_code():
    digests = {artifacts.job_digest(spec, code) for spec in ("{}", "[]") for code in ("x", "y")}
    assert len(digests) == 4


# Tensors -----------------------------------------------------------------------------------------


def test_round_trip(path, tensors):
    found, provenance = artifacts.read_tensors(path, PROVENANCE["job"])
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)
    assert provenance.items() >= PROVENANCE.items()
    assert artifacts.read_header(path) == provenance


def test_same_content_same_bytes(tmp_path, path, tensors):
    """Whatever the order of the tensors and of the keys."""
    other = tmp_path / "other.safetensors"
    shuffled = {name: tensors[name] for name in reversed(tensors)}
    artifacts.write_tensors(other, shuffled, dict(reversed(PROVENANCE.items())))
    assert other.read_bytes() == path.read_bytes()


def test_content_digest_tells_content_apart(tmp_path, path, tensors):
    """A value, a name, a shape and a type count."""
    changes = [
        {**tensors, "labels": np.array([3, 1, 1])},
        {**{k: v for k, v in tensors.items() if k != "labels"}, "truth": tensors["labels"]},
        {**tensors, "pixels": tensors["pixels"].reshape(3, 2)},
        {**tensors, "pixels": tensors["pixels"].view(np.int8)},
    ]
    digests = {artifacts.read_header(path)["content"]}
    for number, changed in enumerate(changes):
        other = tmp_path / f"{number}.safetensors"
        artifacts.write_tensors(other, changed, PROVENANCE)
        digests.add(artifacts.read_header(other)["content"])
    assert len(digests) == 5


def test_views_are_written_as_they_look(tmp_path):
    """Transposed and strided arrays come back with their own values."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"transposed": array.T, "strided": array[::2, 1::2]}
    artifacts.write_tensors(tmp_path / "views", views, PROVENANCE)
    found, _ = artifacts.read_tensors(tmp_path / "views")
    assert all(np.array_equal(found[name], view) for name, view in views.items())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 50, -1])
def test_truncated_file(path, size):
    path.write_bytes(path.read_bytes()[:size])
    text = refused(artifacts.read_tensors, path)
    assert str(path) in text and "delete it" in text


@pytest.mark.parametrize("tensor", ["images", "labels", "success", "pixels"])
def test_flipped_bit_in_a_tensor(path, tensors, tensor):
    content = bytearray(path.read_bytes())
    position = content.rindex(tensors[tensor].tobytes())
    content[position] ^= 1
    path.write_bytes(content)
    text = refused(artifacts.read_tensors, path)
    assert str(path) in text and "delete it" in text


@pytest.mark.parametrize("bit", [1, 128])
def test_any_flipped_bit_is_refused_or_harmless(path, tensors, bit):
    """Wherever it lies: a UserError, or the tensors as they were. Nothing else is raised."""
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= bit
        path.write_bytes(flipped)
        try:
            found, _ = artifacts.read_tensors(path)
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert all(np.array_equal(found[name], array) for name, array in tensors.items())


@pytest.mark.parametrize(
    "content",
    [b"", b"a text\n" * 30, b"\xff" * 100, b"PK\x03\x04" + bytes(200)],
    ids=["empty", "text", "ones", "archive"],
)
def test_foreign_file(path, content):
    path.write_bytes(content)
    for read in (artifacts.read_header, artifacts.read_tensors):
        text = refused(read, path)
        assert str(path) in text and "delete it" in text


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"blindspots": "[]"}])
def test_safetensors_file_of_another_program(path, metadata):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, path, metadata=metadata)
    assert str(path) in refused(artifacts.read_tensors, path)


def test_missing_file(tmp_path):
    text = refused(artifacts.read_tensors, tmp_path / "nothing.safetensors")
    assert str(tmp_path / "nothing.safetensors") in text and "missing" in text


def test_file_of_another_job(path):
    text = refused(artifacts.read_tensors, path, "b" * 64)
    assert str(path) in text and "another" in text


# Atomic writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, "old"])
def test_interrupted_write_leaves_no_trace(tmp_path, error, before):
    """Neither a temporary file nor a partial one; what was there before stays."""
    target = tmp_path / "folder" / "table.csv"
    if before is not None:
        artifacts.write_text(target, before)
    with pytest.raises(error), artifacts.atomic_path(target) as temporary:
        temporary.write_text("half of")
        raise error
    wanted = [] if before is None else ["table.csv"]
    assert [file.name for file in target.parent.iterdir()] == wanted
    assert before is None or target.read_text() == before


def test_failed_write_of_tensors_leaves_no_trace(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_tensors(tmp_path / "set", {"a": np.zeros(2)}, {"rms": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_file_appears_under_its_name_only_when_whole(tmp_path):
    """The temporary file lies in the same folder, under a name of its own."""
    target = tmp_path / "new" / "table.csv"
    with artifacts.atomic_path(target) as temporary, artifacts.atomic_path(target) as other:
        assert temporary.parent == target.parent and temporary != other
        temporary.write_text("one")
        other.write_text("other")
        assert not target.exists()
    assert target.read_text() == "one"


def test_failed_write_names_the_file(tmp_path):
    """Not the temporary one; and where writing failed Python names none at all."""
    target = tmp_path / "table.csv"
    with pytest.raises(OSError) as caught, artifacts.atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []
    target.write_text("a file, not a folder")
    with pytest.raises(OSError) as caught:
        artifacts.write_text(target / "below.csv", "text")
    assert caught.value.filename == str(target / "below.csv")


@pytest.fixture
def left_over(tmp_path):
    """A folder with the temporary file of a killed writer."""
    folder = tmp_path / "cells"
    script = (
        "import os, signal\nfrom blindspots.artifacts import atomic_path\n"
        f"with atomic_path({str(folder / 'old.json')!r}): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": os.pathsep.join(sys.path)})
    (file,) = folder.iterdir()
    assert file.name.startswith(".old.json.")
    return file


def test_what_killed_writers_left_is_removed_by_the_next(left_over):
    """Whatever its path; but not what a living process or one elsewhere may be writing."""
    elsewhere = left_over.with_name(left_over.name.replace(artifacts.HOST, "elsewhere"))
    elsewhere.touch()
    with artifacts.atomic_path(left_over.with_name("living.json")) as living:
        artifacts.write_text(left_over.with_name("new.json"), "text")
        names = {file.name for file in left_over.parent.iterdir()}
        assert names == {elsewhere.name, living.name, "new.json"}


def test_start_of_a_run_removes_what_killed_writers_left_anywhere(tmp_path, left_over):
    artifacts.prepare_folder(tmp_path)
    assert list(left_over.parent.iterdir()) == []


def test_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    """Told before anything runs, and whichever folder below it is."""
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(artifacts.prepare_folder, tmp_path / "file/results")
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != models)  # root may do all
    assert refused(artifacts.prepare_folder, tmp_path).startswith(f"{models} cannot be written to")


def test_written_files_have_ordinary_permissions(tmp_path, path):
    """Those of the umask, not the private ones of a temporary file."""
    artifacts.write_text(tmp_path / "a.txt", "text")
    mask = os.umask(0)
    os.umask(mask)
    for file in (tmp_path / "a.txt", path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


def test_text_is_utf8(tmp_path):
    artifacts.write_text(tmp_path / "a.txt", "λ = 10⁻⁴\n")
    assert (tmp_path / "a.txt").read_bytes() == "λ = 10⁻⁴\n".encode()


# Sidecars ----------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """A table in two forms with its sidecar."""
    outputs = [tmp_path / "table.csv", tmp_path / "table.md"]
    for output in outputs:
        output.write_text(f"{output.name}\n")
    artifacts.write_sidecar(outputs, PROVENANCE)
    return outputs[0]


def test_sidecar_holds_provenance_and_digests(table):
    assert artifacts.sidecar_path(table).name == "table.csv.json"
    found = json.loads(artifacts.sidecar_path(table).read_text())
    assert found.items() >= PROVENANCE.items()
    wanted = {
        file.name: artifacts.file_digest(file)
        for file in table.parent.glob("table.??*")
        if file.suffix != ".json"
    }
    assert found["content"] == wanted
    artifacts.check_sidecar(table, PROVENANCE["job"])


def test_sidecar_has_the_same_bytes_twice(table):
    before = artifacts.sidecar_path(table).read_bytes()
    outputs = [table, table.with_suffix(".md")]
    artifacts.write_sidecar(outputs, dict(reversed(PROVENANCE.items())))
    assert artifacts.sidecar_path(table).read_bytes() == before


def test_changed_output(table):
    table.write_text("edited by hand\n")
    text = refused(artifacts.check_sidecar, table, PROVENANCE["job"])
    assert str(table) in text and "changed" in text


def test_output_of_another_job(table):
    text = refused(artifacts.check_sidecar, table, "b" * 64)
    assert str(table) in text and "another" in text


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"content": {}}', "\x00"])
def test_damaged_sidecar(table, content):
    artifacts.sidecar_path(table).write_text(content)
    text = refused(artifacts.check_sidecar, table, PROVENANCE["job"])
    assert str(artifacts.sidecar_path(table)) in text and "delete it" in text


@pytest.mark.parametrize("missing", ["table.csv", "table.csv.json"])
def test_missing_output_or_sidecar(table, missing):
    (table.parent / missing).unlink()
    text = refused(artifacts.check_sidecar, table, PROVENANCE["job"])
    assert str(table.parent / missing) in text and "missing" in text


# Dates -------------------------------------------------------------------------------------------


def test_dates_in_the_future_are_brought_to_the_present(tmp_path):
    """Of a file, its sidecar and a link; other dates, other files and what is none stay."""
    table, other = tmp_path / "table.csv", tmp_path / "other"
    link, sidecar = tmp_path / "link", artifacts.sidecar_path(table)
    now, future, past = time.time(), time.time() + 86400, 1e9
    for path, date in {table: future + 1, sidecar: future, other: past}.items():
        path.touch()
        os.utime(path, (date, date))
    link.symlink_to(other)
    os.utime(link, (future, future), follow_symlinks=False)
    artifacts.bring_to_present([table, other, link, tmp_path, "no file"])
    for path in (table, sidecar, link):
        assert now - 1 < path.lstat().st_mtime <= time.time()
    assert other.stat().st_mtime == past
    assert sidecar.stat().st_mtime <= table.stat().st_mtime  # as before
    os.utime(table, (future, future))
    artifacts.prepare_folder(tmp_path)
    assert table.stat().st_mtime <= time.time()


def test_date_in_the_future_that_cannot_be_changed(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.touch()
    os.utime(path, (time.time() + 86400,) * 2)

    def forbid(*arguments, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", forbid)
    told = refused(artifacts.bring_to_present, [path])
    assert told == (
        f"{path} has a date in the future, which cannot be changed (Operation not permitted); "
        "let its owner `touch` it and run again"
    )
