"""A study that is killed again and again ends with the bytes of an undisturbed run.

`make test-kill` runs it; the environment variables KILL_SEED and KILL_COUNT draw other kills.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import product
from typing import NamedTuple

import psutil
import pytest
from project import ROOT, Project, left_out

SEED = int(os.environ.get("KILL_SEED", "0"))
COUNT = int(os.environ.get("KILL_COUNT", "20"))
STUDY = ("--configfile", "studies/digits.yaml")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WHOM = ("snakemake", "a step", "the group")
LATE = 0.9  # share of the files with which a run may soon end by itself: no more waiting then
PATIENCE = 60  # seconds that a run may go on after a signal when no step of it runs any more


class Kill(NamedTuple):
    """One kill: what is sent to whom, and when.

    Attributes
    ----------
    number : signal.Signals
    whom : str
        One of `WHOM`.
    files : int
        Files of the finished study that must be there before.
    working : bool
        Wait for the first step of the run, too; otherwise the signal may meet Snakemake's start.
    delay : float
        Seconds to wait after that, if the run is not about to end.
    """

    number: signal.Signals
    whom: str
    files: int
    working: bool
    delay: float


class Step(NamedTuple):
    """A running step: its process, its name and the last file that it is to write."""

    process: psutil.Process
    name: str
    output: str


@pytest.fixture
def project(tmp_path):
    """A copy of the project in which nothing has been run."""
    shutil.copytree(ROOT, tmp_path / "killed", ignore=left_out)
    return Project(tmp_path / "killed", "digits")


@pytest.fixture
def undisturbed(tmp_path):
    """The results of a run that nobody disturbs."""
    shutil.copytree(ROOT, tmp_path / "undisturbed", ignore=left_out)
    project = Project(tmp_path / "undisturbed", "digits")
    project.make(*STUDY)
    return project.contents(but=("logs",))


def test_killed_runs_end_as_an_undisturbed_one(project, undisturbed):
    wanted = [name for name in undisturbed if not name.startswith("cells/")]
    sent, hit, orphaned, hung, doubled, sessions = Counter(), Counter(), Counter(), [], set(), set()
    print(f"\n{COUNT} kills, seed {SEED}")
    began = time.monotonic()
    for kill in drawn(len(wanted)):
        process = begin(project)
        sessions.add(process.pid)
        doubled |= wait_for_moment(project, process, kill, wanted, sessions)
        assert process.poll() is None, f"a run ended by itself:\n{told(project)[-6000:]}"
        there = present(project, wanted)
        assert there < len(wanted)  # it was in the middle
        left = [step.name for step in steps_of({process.pid})]
        struck = strike(process, kill)
        if not has_ended(process, kill):
            hung.append((kill.number.name, kill.whom))
        assert process.returncode != 0
        sent[kill.number.name, kill.whom] += 1
        hit.update(struck)
        if kill.whom == "snakemake" and kill.number == signal.SIGKILL:
            orphaned.update(left)
        seconds = time.monotonic() - began
        steps = ", ".join(struck) or f"({', '.join(left)})"
        print(f"{seconds:4.0f} s  {there:3} of {len(wanted)} files", end="  ")
        print(f"{kill.number.name:7}  {kill.whom:9}  {steps}", flush=True)
        if any((project.path / ".snakemake/locks").glob("*")):
            project.make(*STUDY, "--unlock")

    process = begin(project)  # disturbed by nobody but orphans of the earlier ones
    sessions.add(process.pid)
    while process.poll() is None:
        doubled |= doubles(sessions)
        time.sleep(0.1)
    assert process.returncode == 0, told(project)[-6000:]
    print(f"{time.monotonic() - began:.0f} s for the kills, the restarts and the rest")
    print("sent:", *(f"{number} to {whom}: {n};" for (number, whom), n in sorted(sent.items())))
    print(f"steps hit: {dict(hit)}; orphaned: {dict(orphaned)}")
    print(f"outputs that two processes were writing at once: {sorted(doubled)}")
    print(f"did not end within {PATIENCE} s: {hung}")

    wait_for_orphans(sessions)
    assert project.contents(but=("logs",)) == undisturbed
    assert [path for path in project.results.rglob(".*")] == []
    assert project.planned(*STUDY) == set()
    assert len(hit) >= min(5, COUNT // 4), "too few kinds of steps were hit: try another KILL_SEED"


def drawn(total):
    """Return the kills in their order: each signal to each as often as can be, all along a run."""
    generator = random.Random(SEED)
    pairs = list(product(SIGNALS, WHOM))
    chosen = pairs * (COUNT // len(pairs)) + generator.sample(pairs, COUNT % len(pairs))
    generator.shuffle(chosen)
    files = sorted(generator.randrange(int(LATE * total)) for _ in chosen)
    return [
        Kill(*pair, count, generator.random() < 0.8, generator.uniform(0, 4))
        for pair, count in zip(chosen, files, strict=True)
    ]


def begin(project):
    """Start snakemake as the leader of a session of its own."""
    with open(project.path / "out.txt", "w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *STUDY],
            cwd=project.path,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            # What a shell runs in the background ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def told(project):
    """Return what the latest run has printed."""
    return (project.path / "out.txt").read_text()


def present(project, wanted):
    """Return how many files of a finished study are there."""
    return sum((project.results / name).exists() for name in wanted)


def wait_for_moment(project, process, kill, wanted, sessions):
    """Wait until it is time to kill; return the outputs that two steps were writing meanwhile."""
    doubled, due = set(), None
    while process.poll() is None:
        doubled |= doubles(sessions)
        steps, there = steps_of({process.pid}), present(project, wanted)
        if due is None and there >= kill.files and (steps or not kill.working):
            due = time.monotonic() + kill.delay
        over = due is not None and (time.monotonic() >= due or there >= LATE * len(wanted))
        if over and (steps or kill.whom != "a step"):
            break
        time.sleep(0.05)
    return doubled


def strike(process, kill):
    """Send the signal; return the names of the steps that it was sent to."""
    steps = steps_of({process.pid})
    if kill.whom == "the group":
        os.killpg(process.pid, kill.number)
    elif kill.whom == "snakemake":
        process.send_signal(kill.number)
        steps = []
    else:
        steps = [random.Random(f"{SEED} {kill}").choice(steps)] if steps else []
        for step in steps:
            with contextlib.suppress(psutil.NoSuchProcess):
                step.process.send_signal(kill.number)
    return [step.name for step in steps]


def has_ended(process, kill):
    """Wait for the end of a run that was struck; False if only SIGKILL could end it."""
    known = {step.process for step in steps_of({process.pid})}
    last = time.monotonic()
    while process.poll() is None:
        running = {step.process for step in steps_of({process.pid})}
        if running:
            last = time.monotonic()
        if kill.whom == "a step" and running - known:  # the one that was struck was just done
            known |= running
            strike(process, kill)
        if time.monotonic() - last > PATIENCE:
            process.kill()
            process.wait()
            return False
        time.sleep(0.1)
    return True


def wait_for_orphans(sessions):
    """Wait until the last process of some sessions has ended; they end by themselves."""
    deadline = time.monotonic() + PATIENCE
    while processes := processes_of(sessions):
        assert time.monotonic() < deadline, f"left over: {processes}"
        time.sleep(0.1)


def doubles(sessions):
    """Return the outputs that two steps are to write at this moment."""
    outputs = Counter(step.output for step in steps_of(sessions))
    return {output for output, count in outputs.items() if count > 1}


def steps_of(sessions):
    """Return the steps that run in some sessions."""
    steps = []
    for process in processes_of(sessions):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            match process.cmdline():
                case [_, "-m", module, *_, output] if module.startswith("blindspots."):
                    steps.append(Step(process, module.rpartition(".")[2], output))
    return steps


def processes_of(sessions):
    """Return the living processes of some sessions."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
