"""What tests run by fork ends as an interpreter of its own would: word, code, signal and all."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from shutil import which

import pytest
from forkclient import SIGNALS
from forkserver import ForkServer

FORKED = "import sys; print('fractions' in sys.modules)"
# Modules, which are run with the arguments `a` and `b c`.
MODULES = {
    "surroundings": "import os, sys\nprint(sys.argv, sys.orig_argv[1:], os.getcwd(), __name__)\n"
    "print(sys.path, sys.executable, sorted(os.environ), signals())\n"
    "import mine; print(mine.__file__)",
    "code": "import sys; sys.exit(7)",
    "no code": "import sys; sys.exit()",
    "text": "import sys; print('out'); sys.exit('a mistake')",
    "error": "print('out'); 1 / 0",
    "interrupt": "raise KeyboardInterrupt",
    "at once": "import os, sys; sys.stdout.write('lost'); os._exit(3)",
    "at exit": "import atexit, sys\natexit.register(print, 'end')\nsys.stdout.write('begin ')",
    "thread": "import threading, time\n"
    "def late():\n    time.sleep(0.2)\n    print('late')\n"
    "threading.Thread(target=late).start()\nprint('main')",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "broken pipe": "import os, signal\nsignal.signal(13, signal.SIG_DFL)\nos.kill(os.getpid(), 13)",
    "input": "import sys; print(sys.stdin.read())",
    "fourth stream": "import os; os.write(3, b'there')",
    "customised": "import sys; print(sys.customised)",
    "full disk": "print('x')",
    "no output": "import sys; sys.exit(sys.stdout is not None)",
    "no such module": None,
}
HOW = {"full disk": ">/dev/full", "no output": ">&-"}  # words of a shell


@pytest.fixture(scope="module")
def forks():
    server = ForkServer("fractions")
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path):
    """Where modules lie, with one of the search path beside."""
    for name in ("here", "path"):
        (tmp_path / name).mkdir()
    (tmp_path / "path/mine.py").touch()
    (tmp_path / "path/sitecustomize.py").write_text(
        "import builtins, signal, sys\nsys.customised = 'yes'\n"
        "builtins.signals = lambda: [signal.getsignal(n) for n in (2, 13, 15, 17)]\n"
    )
    return tmp_path / "here"


def start(python, folder, source, how="", **environment):
    """Start a module in a process of its own or by a fork."""
    if source is not None:
        (folder / "it.py").write_text(source)
    return subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3>&1 {how}', str(python), "-m", "it", "a", "b c"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder.parent / "path"), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_signals,
        text=True,
    )


def heed_signals():
    """Ignore none, as what a shell runs in the background does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("kind", MODULES)
def test_fork_does_what_a_process_does(forks, folder, kind):
    told = []
    for python in (sys.executable, forks.python):
        process = start(python, folder, MODULES[kind], HOW.get(kind, ""))
        out, errors = process.communicate("words\n")
        last = errors.strip().rpartition("\n")[2].rpartition(": ")[2]
        told.append((process.returncode, out, last))
    assert told[0] == told[1]


def test_it_is_a_fork(forks, folder):
    assert start(forks.python, folder, FORKED).communicate()[0] == "True\n"
    assert start(sys.executable, folder, FORKED).communicate()[0] == "False\n"


def refused_variable(folder):
    return {"OMP_NUM_THREADS": "7"}


def refused_shadow(folder):
    (folder.parent / "path/fractions.py").touch()


@pytest.mark.parametrize("how", [refused_variable, refused_shadow])
def test_what_a_fork_would_do_otherwise_is_refused(forks, folder, how):
    process = start(forks.python, folder, FORKED, **(how(folder) or {}))
    assert process.communicate()[0] == "False\n"


def test_a_terminal_is_refused(forks, folder):
    (folder / "it.py").write_text(FORKED.replace("print(", "print(sys.stdout.isatty(), "))
    ours, theirs = pty.openpty()
    process = subprocess.Popen([forks.python, "-m", "it"], cwd=folder, stdout=theirs)
    os.close(theirs)
    with open(ours) as terminal:
        assert terminal.readline() == "True False\n"
    assert process.wait() == 0


SLOW = """
import os, signal, sys, time
def leave(number, frame):
    print("left"); sys.exit(128 + number)
signal.signal(signal.SIGTERM, leave)
try:
    print(os.getpid(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted"); raise
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_reach_the_fork(forks, folder, number):
    told = []
    for python in (sys.executable, forks.python):
        process = start(python, folder, SLOW)
        process.stdout.readline()
        process.send_signal(number)
        told.append((process.communicate()[0], process.returncode))
    assert told[0] == told[1]


def test_fork_ends_with_its_client(forks, folder):
    process = start(forks.python, folder, SLOW)
    fork = int(process.stdout.readline())
    assert fork != process.pid
    process.kill()
    assert process.communicate()[0] == ""
    wait_for_end(fork)


def test_forks_end_with_the_server(folder):
    server = ForkServer()
    process = start(server.python, folder, SLOW)
    fork = int(process.stdout.readline())
    server.close()
    assert process.wait() == 1
    wait_for_end(fork)


def wait_for_end(pid):
    """Wait until there is no such process."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.01)


@pytest.mark.skipif(which("nvidia-smi") is not None, reason="with a GPU all steps are real")
def test_steps_are_forks(fresh, tmp_path):
    """Unless the test wants processes of their own."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'blindspots.data.sources.digits' in sys.orig_argv:\n"
        f"    with open({str(tmp_path / 'told')!r}, 'a') as file:\n"
        "        print('torch' in sys.modules, file=file)\n"
    )
    for real_steps in (False, True):
        fresh.make(
            *("--forcerun", "prepare_data", "--", "results/tiny/data.safetensors"),
            real_steps=real_steps,
            PYTHONPATH=str(tmp_path),
        )
    assert (tmp_path / "told").read_text() == "True\nFalse\n"
