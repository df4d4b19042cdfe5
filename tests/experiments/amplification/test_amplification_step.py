"""The step that measures: on a network and its first weights, whole and after interruptions."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blindspots.artifacts import canonical_json, job_digest, read_tensors, write_tensors
from blindspots.attacks.ddn import ddn
from blindspots.errors import UserError
from blindspots.experiments.amplification import measure_amplification
from blindspots.models.networks import build_network
from blindspots.steps.job import Job
from blindspots.steps.loading import to_arrays
from blindspots.steps.weights import save_network

SHAPE, UP = (1, 6, 6), "0" * 64
ABOUT = {
    "architecture": {"kind": "mlp", "widths": [12], "activation": "relu"},
    "shape": list(SHAPE),
    "classes": 4,
}


@pytest.fixture
def files(tmp_path):
    """Images that a network answers in its own way, and its adversarial set."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 17, (30, *SHAPE), generator=generator, dtype=torch.uint8)
    network = build_network(ABOUT["architecture"], SHAPE, 4, seed=5).eval()
    images = pixels.float() / 16
    labels = network(images).argmax(1)
    facts = {"maximum": 16, "classes": 4, "shape": list(SHAPE)}
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("data", "model", "set")}
    arrays = to_arrays({"test_images": pixels, "test_labels": labels})
    write_tensors(paths["data"], arrays, {"job": UP, "facts": facts})
    save_network(paths["model"], network, {"job": UP, "network": ABOUT, "spec": {"seed": 3}})
    result = ddn(network, images[4:24], labels[4:24], steps=20)
    found = to_arrays({**vars(result), "labels": labels[4:24]})
    write_tensors(paths["set"], {**found, "indices": np.arange(4, 24)}, {"job": UP})
    return SimpleNamespace(**paths, record=tmp_path / "record.json")


def job():
    spec = {
        "model": "net",
        "seed": 3,
        "base": "test",
        "attack": {"method": "ddn", "targets": "untargeted", "options": {"steps": 20}},
        "chunk": 30,
        "jacobians": 5,
        "device": "cpu",
        "upstream": {"data": UP, "model": UP, "set": UP},
    }
    return Job(spec, "code", job_digest(canonical_json(spec), "code"), 1)


def test_both_networks_are_measured_on_the_same_images(files):
    measure_amplification.main(job(), files)
    rows = json.loads(files.record.read_text())["rows"]
    assert {row["network"] for row in rows} == {"net", "net (untrained)"}
    assert len(rows) == 2 * 4 * 4  # networks, layers (images among them), perturbations
    for row in rows:
        assert row["seed"] == 3 and row["sigma_n"] == 5
        assert 10 <= row["n"] <= 20
        assert row["gain_low"] <= row["gain"] <= row["gain_high"] <= row["gain_max"]
        assert row["gain_max"] <= row["bound"] * (1 + 1e-9)
        assert row["sigma"] <= row["bound"] * (1 + 1e-6)
        if row["perturbation"] == "difference":
            assert row["displacement"] == pytest.approx(1)
        if row["layer"] == "images":
            assert row["gain"] == pytest.approx(1) and row["bound"] == 1
    assert not list(files.record.parent.glob(".*checkpoint"))


def test_a_killed_job_ends_with_the_same_bytes(files, monkeypatch):
    """Killed behind each checkpoint, until nothing is left to do."""
    measure_amplification.main(job(), files)
    wanted = files.record.read_bytes()
    monkeypatch.setenv("BLINDSPOTS_CHECKPOINT_SECONDS", "0")
    save, lives = measure_amplification.FileCheckpoint.save, 0

    def killed(self, stage, state, force=False):
        save(self, stage, state, True)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure_amplification.FileCheckpoint, "save", killed)
    files.record.unlink()
    while not files.record.exists():
        try:
            measure_amplification.main(job(), files)
        except KeyboardInterrupt:
            lives += 1
            assert lives < 100
    # One chunk is attacked; of each network two parts of three images have Jacobians measured.
    counts = {row["network"]: row["n"] for row in json.loads(wanted)["rows"]}
    assert lives == 1 + sum(2 + math.ceil(count / 3) for count in counts.values())
    assert files.record.read_bytes() == wanted


def test_too_few_successes_are_told(files):
    arrays, _ = read_tensors(files.set, UP)
    arrays["success"] = np.arange(20) == 3
    write_tensors(files.set, arrays, {"job": UP})
    with pytest.raises(UserError, match="fewer than two attacks succeeded"):
        measure_amplification.main(job(), files)
    assert not files.record.exists()


def test_an_untrained_network_that_cannot_be_fooled_is_measured_all_the_same(files, monkeypatch):
    found = measure_amplification.attack_all

    def failing(*arguments):
        result = found(*arguments)
        return {**result, "success": torch.zeros_like(result["success"])}

    monkeypatch.setattr(measure_amplification, "attack_all", failing)
    measure_amplification.main(job(), files)
    rows = [r for r in json.loads(files.record.read_text())["rows"] if "(" in r["network"]]
    count = int(read_tensors(files.set, UP)[0]["success"].sum())
    for row in rows:
        of_itself = row["perturbation"] in ("adversarial", "shuffled")
        assert row["n"] == (0 if of_itself else count)
        assert (row["gain"] is None) == of_itself
        assert row["sigma"] > 0
