"""Every kind of artifact, damaged in every way: named in one sentence and never used."""

import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from blindspots.artifacts import write_record, write_sidecar, write_tensors
from blindspots.errors import UserError
from blindspots.experiments.transfer import collect_transfer
from blindspots.experiments.transfer.bits import array_to_text
from blindspots.experiments.transfer.cells import CellCache
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.experiments.transfer.transfer_table import read_answers, read_cells
from blindspots.models.estimator_bytes import pack
from blindspots.models.networks import build_network
from blindspots.steps.loading import load_adversarial_set, load_images
from blindspots.steps.weights import ESTIMATOR, load_network, save_estimator, save_network

CPU = torch.device("cpu")
JOB = "a" * 64
FACTS = {"maximum": 16, "classes": 3, "shape": [1, 2, 2]}


def provenance(job=JOB, **extra):
    return {"job": job, "spec": {"seed": 0, "share": 0.5}, "code": "c", "threads": 1, **extra}


def make_data(path, **job):
    tensors = {"test_images": np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)}
    tensors["test_labels"] = np.array([2, 0, 1])
    write_tensors(path, tensors, provenance(facts=FACTS, **job))


def read_data(path):
    images, labels, _, facts = load_images(path, JOB, {"of": "test"}, CPU)
    return images.tolist(), labels.tolist(), facts


def make_model(path, **job):
    about = {"architecture": {"kind": "softmax"}, "shape": [1, 2, 2], "classes": 3}
    network = build_network(about["architecture"], (1, 2, 2), 3, seed=1)
    save_network(path, network, provenance(network=about, **job))


def read_model(path):
    network, about = load_network(path, JOB, CPU)
    return {name: tensor.tolist() for name, tensor in network.state_dict().items()}, about


def make_estimator(path, **job):
    rows, labels = np.eye(4).repeat(2, axis=0), np.arange(8) % 3
    content = pack(KNeighborsClassifier(1).fit(rows, labels))
    about = {"architecture": {"kind": ESTIMATOR}, "shape": [1, 2, 2], "classes": 3}
    save_estimator(path, content, provenance(network=about, **job))


def read_estimator(path):
    model, about = load_network(path, JOB, CPU)
    return model(torch.eye(4).view(4, 1, 2, 2)).tolist(), about


def make_set(path, **job):
    images = np.random.default_rng(0).random((3, 1, 2, 2), dtype=np.float32)
    numbers = np.arange(3)
    arrays = {"images": images, "success": numbers < 2, "indices": numbers}
    arrays |= {"labels": numbers, "targets": (numbers + 1) % 3}
    write_tensors(path, arrays, provenance(**job))


def read_set(path):
    found, about = load_adversarial_set(path, JOB, FACTS, CPU)
    return {name: tensor.tolist() for name, tensor in found.items()}, about


def make_row(path, **job):
    cells = [dict.fromkeys(FIELDS, 0) | {"victim": name, "error": 0.25} for name in "BC"]
    bits = array_to_text(np.array([True, False, True]))
    answers = {"indices": array_to_text(np.arange(3, dtype="<i4")), "right": [bits, bits]}
    answers["fooled"] = answers["right"]
    write_record(path, provenance(rows=cells, answers=answers, **job))


def read_row(path):
    table, answers = path.with_name("joined.csv"), path.with_name("answers.safetensors")
    job = SimpleNamespace(upstream=lambda name: [JOB], provenance=provenance)
    collect_transfer.main(job, SimpleNamespace(rows=[path], transfer=table, answers=answers))
    return table.read_text(), answers.read_bytes()


CELLS = pd.DataFrame([{"source": "A", "victim": "B", "seed": 0, "attack": "few"}])


def make_answers(path, **job):
    bits = np.packbits([[True, False, True]], axis=1)
    tensors = {"indices": np.arange(3, dtype="<i4"), "right": bits, "fooled": bits}
    named = {f"A/0/few/{name}": array for name, array in tensors.items()}
    write_tensors(path, named, provenance(**job))


def read_single(path):
    return read_answers(path, JOB, CELLS).rate(CELLS)


def make_table(path, **job):
    path.write_text("source,victim,attack,variant,error\nA,B,few,as_found,0.25\n")
    write_sidecar([path], provenance(**job))


def read_table(path):
    return read_cells(path, JOB).to_csv()


# How each kind is made and read; of the table, table and sidecar are damaged in turn.
KINDS = {
    "data.safetensors": (make_data, read_data),
    "model.safetensors": (make_model, read_model),
    "estimator.safetensors": (make_estimator, read_estimator),
    "set.safetensors": (make_set, read_set),
    "row.json": (make_row, read_row),
    "answers.safetensors": (make_answers, read_single),
    "transfer.csv": (make_table, read_table),
    "transfer.csv.json": (
        lambda path, **job: make_table(path.with_suffix(""), **job),
        lambda path: read_table(path.with_suffix("")),
    ),
}


@pytest.fixture(params=KINDS)
def artifact(request, tmp_path):
    """The path of a whole artifact and the function that reads it."""
    make, read = KINDS[request.param]
    make(tmp_path / request.param)
    return tmp_path / request.param, read


def refusal(read, path):
    """Return the sentence that refuses a damaged file, and names it."""
    with pytest.raises(UserError) as caught:
        read(path)
    sentence = str(caught.value)
    assert str(path).removesuffix(".json") in sentence
    assert sentence.endswith("delete it and run again") and "\n" not in sentence
    return sentence


def flips(content):
    """Yield copies with one flipped bit: each of the first 16 bytes, then 800 at random."""
    for bit in [*range(128), *random.Random(0).choices(range(8 * len(content)), k=800)]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield flipped


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.99])
def test_truncated(artifact, share):
    path, read = artifact
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(read, path)


def test_flipped_bits(artifact):
    path, read = artifact
    for flipped in flips(path.read_bytes()):
        path.write_bytes(flipped)
        refusal(read, path)


@pytest.mark.parametrize("content", ["text", "{}", '{"digest": 1}', "[]", "\x89PNG" + 100 * "\0"])
def test_file_of_another_program(artifact, content):
    path, read = artifact
    path.write_text(content)
    refusal(read, path)


@pytest.mark.parametrize("kind", KINDS)
def test_artifact_of_another_job(artifact, kind, tmp_path):
    """Whole, but under a name that is not its own."""
    path, read = artifact
    (tmp_path / "other").mkdir()
    make, _ = KINDS[kind]
    make(tmp_path / "other" / kind, job="b" * 64)
    path.write_bytes((tmp_path / "other" / kind).read_bytes())
    if kind == path.name == "transfer.csv":  # the same text, so it is the sidecar that tells
        (tmp_path / "other" / "transfer.csv.json").rename(tmp_path / "transfer.csv.json")
    refusal(read, path)


# Cells are a cache: what is damaged is as if it were not there, and the log says so ---------------

CODES = {"as_found": "v", "clean": "w"}
COUNTS = {"n_fooled": 3, "error": 0.25, "rms": None}
VICTIM = ("victim", {"kind": "as_found"})


@pytest.fixture
def cells(tmp_path):
    """The file of a set's cells, one so far, and how it is read."""
    cache = CellCache(tmp_path, CODES, "set", "code")
    cache.put(*VICTIM, COUNTS)
    cache.save()
    (path,) = tmp_path.iterdir()
    return path, lambda: CellCache(tmp_path, CODES, "set", "code")


def test_whole_cells(cells):
    path, read = cells
    assert read().get(*VICTIM) == COUNTS
    assert read().get("another", VICTIM[1]) is None
    assert read().get(VICTIM[0], {"kind": "clean"}) is None
    assert CellCache(path.parent, CODES, "set", "other code").get(*VICTIM) is None
    edited = CellCache(path.parent, {**CODES, "as_found": "new"}, "set", "code")
    assert edited.get(*VICTIM) is None  # of this variant alone
    other = CellCache(path.parent, {**CODES, "clean": "new"}, "set", "code")
    assert other.get(*VICTIM) == COUNTS
    more = read()
    more.put("another", VICTIM[1], {"n_fooled": 0})
    more.save()
    assert read().get(*VICTIM) == COUNTS and read().get("another", VICTIM[1]) == {"n_fooled": 0}


def test_damaged_cells_are_computed_anew(cells, caplog):
    path, read = cells
    content = path.read_bytes()
    truncated = [content[: len(content) * tenth // 10] for tenth in range(10)]
    for damaged in [*truncated, *flips(content), b"[]", b"text"]:
        path.write_bytes(damaged)
        caplog.clear()
        cache = read()
        assert cache.get(*VICTIM) is None
        assert f"computed anew: {path}" in caplog.text
    cache.put(*VICTIM, COUNTS)
    cache.save()
    assert path.read_bytes() == content


def test_cells_under_the_name_of_another_set(cells, caplog):
    path, read = cells
    other = CellCache(path.parent, CODES, "another set", "code")
    other.put(*VICTIM, {"n_fooled": 0})
    other.save()
    other.path.rename(path)
    assert read().get(*VICTIM) is None
    assert f"{path} is of another set" in caplog.text
