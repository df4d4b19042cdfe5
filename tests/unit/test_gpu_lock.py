"""Jobs that run at the same time take different GPUs."""

import os
import subprocess
import sys

import pytest
import torch

from blindspots import device, gpu_lock
from blindspots.errors import UserError
from blindspots.gpu_lock import take_gpu, visible_gpus

HOLD = """
import sys
from blindspots.gpu_lock import take_gpu
print(take_gpu(sys.argv[2:], sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(root, tmp_path):
    """Start a process that takes a GPU and keeps it; return it and the position it took."""
    processes = []

    def start(*names):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            text=True,
        )
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_jobs_take_different_gpus_and_killed_ones_give_theirs_back(job):
    first, position = job("0", "1", "2")
    assert position == 0
    second, position = job("0", "1", "2")
    assert position == 1
    assert job("2", "1", "0")[1] == 0  # the positions are those in its own list
    second.kill()
    second.wait()
    assert job("0", "1", "2")[1] == 1
    first.communicate("")  # ends by itself
    assert job("0", "1", "2")[1] == 0


def test_jobs_share_gpus_evenly(job):
    assert [job("0", "1")[1] for _ in range(5)] == [0, 1, 0, 1, 0]


def test_a_job_waits_for_a_gpu_and_says_so(job, tmp_path, monkeypatch, caplog):
    holder, _ = job("0")
    for _ in range(gpu_lock.SHARES - 1):
        assert job("0")[1] == 0
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            holder.kill()
            holder.wait()

    monkeypatch.setattr(gpu_lock.time, "sleep", sleep)
    with caplog.at_level("INFO"):
        assert take_gpu(["0"], tmp_path) == 0
    assert len(slept) == 3
    assert caplog.text.count("all 1 GPUs are taken by other jobs") == 1


@pytest.mark.parametrize(
    ("setting", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("", 2, ["0", "1"]),
        ("2,3", 2, ["2", "3"]),
        ("GPU-1a,MIG-2b/1", 2, ["GPU-1a", "MIG-2b/1"]),
        ("0,1,7", 2, ["0", "1"]),  # one of them does not exist: positions are all we know
    ],
)
def test_names_of_visible_gpus(monkeypatch, setting, count, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert visible_gpus(count) == names


@pytest.fixture
def cuda(monkeypatch):
    """Let torch see some GPUs; the returned list tells which of them were chosen."""
    chosen = []

    def see(count):
        fakes = {
            "is_available": lambda: count > 0,
            "device_count": lambda: count,
            "set_device": chosen.append,
            "get_device_name": lambda position: f"GPU {position}",
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        return chosen

    threads = torch.get_num_threads()
    yield see
    monkeypatch.undo()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_device_of_a_job(cuda, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(device, "take_gpu", lambda names: asked.append(names) or 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    with caplog.at_level("INFO"):
        cuda(0)
        assert device.configure_torch("auto", 1) == torch.device("cpu")
        assert "device cpu (there is no usable GPU)" in caplog.text
        with pytest.raises(UserError, match="torch sees no usable GPU"):
            device.configure_torch("cuda", 1)
        chosen = cuda(1)
        assert device.configure_torch("auto", 1) == torch.device("cuda", 0)
        assert (chosen, asked) == ([0], [])  # the scheduler has chosen: no lock
        cuda(2)
        assert device.configure_torch("cuda", 1) == torch.device("cuda", 1)
        assert (chosen, asked) == ([0, 1], [["4", "6"]])
        assert "device cuda:1 (GPU 1)" in caplog.text
        assert device.configure_torch("cpu", 1) == torch.device("cpu")
    assert len(chosen) == 2
