"""Checkpoints: what they keep, what they refuse, and that nothing changes by going on from one."""

import copy
import hashlib
import io
import os
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.errors import UserError
from blindspots.models.networks import build_network
from blindspots.models.training import train_classifier
from blindspots.steps import checkpoint as checkpoints
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import Job

CPU = torch.device("cpu")
STATE = {"tensor": torch.arange(5.0), "list": [1, 2.5, None, "text"], "dict": {3: torch.ones(2)}}


def job(digest="a", threads=1):
    return Job({}, "code", digest, threads)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setenv("BLINDSPOTS_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(checkpoints, "COST", 0)


@pytest.fixture
def saved(tmp_path, always):
    """The output of a job that has saved one state."""
    output = tmp_path / "output"
    FileCheckpoint(job(), output, CPU).save("stage", lambda: STATE)
    return output


def test_state_comes_back(saved):
    found = FileCheckpoint(job(), saved, CPU)
    state = found.load("stage")
    assert torch.equal(state["tensor"], STATE["tensor"])
    assert state["list"] == STATE["list"]
    assert torch.equal(state["dict"][3], STATE["dict"][3])
    assert found.load("other stage") is None
    found.remove()
    assert list(saved.parent.iterdir()) == []


def test_stages_are_kept_side_by_side(saved):
    FileCheckpoint(job(), saved, CPU).save("second", lambda: {"position": 2})
    found = FileCheckpoint(job(), saved, CPU)
    assert found.load("stage")["list"] == STATE["list"]
    assert found.load("second") == {"position": 2}


@pytest.mark.parametrize("other", [job("b"), job(threads=2)])
def test_checkpoint_of_another_job_counts_for_nothing(saved, other, caplog):
    assert FileCheckpoint(other, saved, CPU).load("stage") is None
    assert "is of another job" in caplog.text


def test_damage_is_noticed(saved, caplog):
    path = saved.with_name(".output.checkpoint")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", whole[:10], whole[:-1], bytes(flipped), b"x" * 100):
        path.write_bytes(content)
        caplog.clear()
        assert FileCheckpoint(job(), saved, CPU).load("stage") is None
        assert "is damaged" in caplog.text


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_not_run(saved, tmp_path, monkeypatch):
    """Even if the digest is right."""
    monkeypatch.chdir(tmp_path)
    payload = io.BytesIO()
    torch.save({"identity": Hostile()}, payload)
    for content in (payload.getvalue(), pickle.dumps(Hostile())):
        digest = hashlib.sha256(content).digest()
        saved.with_name(".output.checkpoint").write_bytes(digest + content)
        assert FileCheckpoint(job(), saved, CPU).load("stage") is None
    assert not (tmp_path / "hostile").exists()


def test_saved_only_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setenv("BLINDSPOTS_CHECKPOINT_SECONDS", "1e9")
    output = tmp_path / "output"
    checkpoint = FileCheckpoint(job(), output, CPU)
    checkpoint.save("stage", lambda: pytest.fail("the state was asked for"))
    assert not list(tmp_path.iterdir())
    checkpoint.save("stage", lambda: STATE, force=True)
    assert FileCheckpoint(job(), output, CPU).load("stage") is not None


@pytest.mark.parametrize("text", ["1m", "nan", "-1"])
def test_interval_that_is_no_number(tmp_path, monkeypatch, text):
    monkeypatch.setenv("BLINDSPOTS_CHECKPOINT_SECONDS", text)
    with pytest.raises(UserError, match=rf"BLINDSPOTS_CHECKPOINT_SECONDS must be .* not '{text}'"):
        FileCheckpoint(job(), tmp_path / "output", CPU)


# Training goes on -------------------------------------------------------------------------------


class Memory:
    """Keeps every state as a file would, and ends the computation after some of them."""

    def __init__(self, stages=(), lives=10**9):
        self.stages, self.lives, self.saves = dict(stages), lives, 0

    def load(self, stage):
        return copy.deepcopy(self.stages.get(stage))

    def save(self, stage, state, force=False):
        self.stages[stage] = copy.deepcopy(state())
        self.saves += 1
        if self.saves == self.lives:
            raise KeyboardInterrupt


class Noisy(nn.Module):
    """A user's network with a buffer and random numbers of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10)
        )

    def forward(self, images):
        return self.layers(images)


class NoisyElsewhere(Noisy):
    """Draws from the global generators of numpy and Python, which know nothing of torch's."""

    def forward(self, images):
        noise = torch.tensor(np.random.randn(*images.shape)).float()
        return super().forward(images + 0.1 * noise * random.gauss(0, 1))


LBFGS = {"optimizer": "lbfgs", "max_evaluations": 90, "history": 10, "tolerance": 1e-9}
LBFGS |= {"preconditioner": "none"}
WHITENED = {**LBFGS, "preconditioner": "kronecker"}
ADAM = {"optimizer": "adam", "epochs": 4, "batch_size": 32, "learning_rate": 0.01}
SGD = {"optimizer": "sgd", "epochs": 4, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}
CODE = {"sparsity_target": 0.1, "sparsity_weight": 3.0, "weight_decay": 3e-3}
CODE |= {"max_evaluations": 70, "history": 20, "tolerance": 1e-9, "preconditioner": "none"}
MLP = {"kind": "mlp", "widths": [8], "activation": "sigmoid"}
CASES = {
    "lbfgs": (MLP, LBFGS),
    "autoencoder": (
        {"kind": "autoencoder", "units": 12},
        {**LBFGS, "max_evaluations": 70, "pretraining": CODE},
    ),
    "whitened": (MLP, WHITENED),
    "whitened code": (
        {"kind": "autoencoder", "units": 12},
        {
            **WHITENED,
            "max_evaluations": 70,
            "pretraining": {**CODE, "preconditioner": "kronecker"},
        },
    ),
    "whitened, with noise": (Noisy, WHITENED),
    "adam": (MLP, ADAM),
    "sgd": (MLP, SGD),
    "dropout": (Noisy, ADAM),
    "numpy and random": (NoisyElsewhere, ADAM),
}


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_with_the_same_result(case, digits):
    """Killed after each state that it saves, one after the other."""
    architecture, training = CASES[case]
    training = {**training, "weight_decay": [1e-4], "weight_decay_convention": "half_l2"}

    def train(checkpoint):
        torch.manual_seed(0)
        own = callable(architecture)
        network = architecture() if own else build_network(architecture, (1, 8, 8), 10, 0)
        images, labels = digits[0][:200], digits[1][:200]
        torch.manual_seed(1)
        record = train_classifier(network, images, labels, training, 0, checkpoint)
        return network.state_dict(), record

    undisturbed = Memory()
    weights, record = train(undisturbed)
    assert undisturbed.saves >= 3
    stages, kills = {}, 0
    while True:
        life = Memory(stages, lives=1)
        try:
            found, again = train(life)
        except KeyboardInterrupt:
            stages, kills = life.stages, kills + 1
        else:
            break
    assert kills == undisturbed.saves
    assert again == record
    for name, value in weights.items():
        assert torch.equal(found[name], value), name


SCATTERED = """
import random

import numpy as np
import torch

SHIFT = random.random() + np.random.rand() + torch.rand(1).item()


def scattered(model, images, labels, targets):
    noise = torch.tensor(np.random.rand(*images.shape)).float()
    return (images + (0.1 * SHIFT + random.random()) * noise + torch.rand_like(images)) % 1
"""


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("best_of", {}),
        ("own_attacks:scattered", {}),
        ("best_of", {"members": [{"method": "ddn"}, {"method": "own_attacks:scattered"}]}),
    ],
)
def test_attack_goes_on_with_the_same_result(method, options, mlp, digits, tmp_path, monkeypatch):
    """Killed after each chunk, each life of which imports a user's module anew."""
    (tmp_path / "own_attacks.py").write_text(SCATTERED)
    monkeypatch.syspath_prepend(tmp_path)
    from blindspots.steps.attacking import attack_all

    images, labels = digits[0][:25], digits[1][:25]
    targets = (labels + 1) % 10
    attack = {"method": method, "options": options}
    wanted = attack_all(mlp, images, labels, targets, attack, 10, Memory())
    stages = {}
    for done in (10, 20, 25):
        life = Memory(stages, lives=1)
        sys.modules.pop("own_attacks", None)
        random.seed(done), np.random.seed(done), torch.manual_seed(done)
        with pytest.raises(KeyboardInterrupt):
            attack_all(mlp, images, labels, targets, attack, 10, life)
        stages = life.stages
        assert len(stages["attack"]["success"]) == done
    found = attack_all(mlp, images, labels, targets, attack, 10, Memory(stages, lives=1))
    sys.modules.pop("own_attacks", None)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)
