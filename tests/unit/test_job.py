"""How a step ends: what it says and where, its exit code, and what it leaves."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

OUT = os.path.join(tempfile.gettempdir(), "out")
STEP = """
import errno, signal, sys
from blindspots.artifacts import atomic_path
from blindspots.errors import UserError
from blindspots.steps.job import run

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

def main(job, files):
    {body}

run(main, reads="", writes="out")
"""
FULL = 'raise OSError(errno.ENOSPC, "No space left on device", "models/A.safetensors")'
SENTENCE = b"error: models/A.safetensors: the disk is full\n"


def start(body, **options):
    """Start a step that does nothing but ``body``."""
    command = [
        sys.executable,
        "-c",
        STEP.format(body=body),
        "--spec",
        "{}",
        "--code",
        "c",
        "--to",
        OUT,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= options.pop("environment", {})
    return subprocess.Popen(command, env=environment, **options)


@pytest.mark.parametrize(
    ("body", "said"),
    [('raise UserError("models.B is wrong")', b"error: models.B is wrong\n"), (FULL, SENTENCE)],
)
def test_mistakes_are_told_in_the_log(body, said):
    step = start(body, stderr=subprocess.PIPE)
    assert step.communicate()[1] == said
    assert step.returncode == 1


def test_draws_of_a_step_follow_from_its_job():
    """Of torch, numpy and Python alike; another specification draws others."""
    body = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))"
    drawn = []
    for spec in ("{}", "{}", '{"seed": 1}'):
        command = [sys.executable, "-c", f"import torch\n{STEP.format(body=body)}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [*command, "--spec", spec, "--code", "c", "--to", OUT],
            env=environment,
            capture_output=True,
        )
        drawn.append(done.stdout.split(maxsplit=2))
    assert len(drawn[0]) == 3 and drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_defects_keep_their_traceback():
    step = start('raise OSError(errno.EIO, "I/O error")', stderr=subprocess.PIPE)
    assert b"Traceback" in step.communicate()[1]
    assert step.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_what_the_log_cannot_take_is_told_on_the_terminal():
    """As on a full disk, where log and results lie together."""
    with open("/dev/full", "w") as log:
        reader, writer = os.pipe()
        terminal = {"BLINDSPOTS_TERMINAL": str(writer)}
        step = start(FULL, stderr=log, pass_fds=[writer], environment=terminal)
        os.close(writer)
        with open(reader, "rb") as stream:
            assert stream.read() == SENTENCE
        assert step.wait() != 0
        step = start(FULL, stderr=log)  # by hand, where there is no other stream
        assert step.wait() != 0


def test_terminal_that_has_gone_is_forgotten():
    """Lines that it does not take are in the log; no traceback is."""
    reader, writer = os.pipe()
    os.close(reader)
    body = f"""
    import logging
    from blindspots.steps.job import TerminalHandler
    log = logging.getLogger("blindspots.progress")
    log.addHandler(TerminalHandler(open({writer}, "w")))
    log.info("one"), log.info("two")
    """
    step = start(body.strip(), stderr=subprocess.PIPE, pass_fds=[writer])
    os.close(writer)
    log = step.communicate()[1].decode()
    assert step.returncode == 0
    assert [line.split()[1] for line in log.splitlines()] == ["one", "two"]


def test_step_without_standard_error():
    step = start('raise UserError("wrong")', preexec_fn=lambda: os.close(2))
    assert step.wait() == 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_killed_step(tmp_path, number, code):
    """Leaves no temporary file if it has the time to remove it, and never half an artifact."""
    body = f"""
    with atomic_path({str(tmp_path / "set")!r}) as temporary:
        temporary.write_text("half of")
        print("writing", flush=True)
        signal.pause()
    """
    step = start(body.strip(), stdout=subprocess.PIPE)
    step.stdout.readline()
    step.send_signal(number)
    step.communicate()
    assert step.returncode == code
    left = [path.name.split(".")[1] for path in tmp_path.iterdir()]
    assert left == (["set"] if number == signal.SIGKILL else [])
