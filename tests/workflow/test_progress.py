"""Long steps show on the terminal how far they are."""

import contextlib
import os
import pty
import re
import subprocess
import sys

MODELS = [f"results/tiny/models/{name}/seed0.safetensors" for name in "AB"]
LINE = re.compile(
    r"^results/tiny/models/(\w)/seed0\.safetensors: "
    r"(L-BFGS \d+/60, at most about \d:\d\d:\d\d left, loss [\d.]+)\r?$",
    re.MULTILINE,
)


def on_a_terminal(project, *arguments):
    """Run snakemake on a pseudo-terminal and return what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=project.path,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    # Linux ends a terminal that nobody holds any more with an error, others with nothing.
    with open(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while chunk := terminal.read(65536):
            shown += chunk
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_progress_is_shown_on_a_terminal(fresh):
    """Of jobs side by side, each line with its file; all of it is in their logs, too."""
    fresh.edit("src/blindspots/progress.py", "SECONDS = 5", "SECONDS = 0")
    found = LINE.findall(on_a_terminal(fresh, *MODELS))
    assert {name for name, _ in found} == {"A", "B"}
    for name, text in found:
        assert f" {text}\n" in (fresh.results / f"logs/train_model/{name}-seed0.log").read_text()
    # Neither where quiet is asked for, nor where there is no terminal.
    (fresh.path / MODELS[0]).unlink()
    assert not LINE.search(on_a_terminal(fresh, "--quiet", "progress", "--", MODELS[0]))
    (fresh.path / MODELS[0]).unlink()
    assert not LINE.search(fresh.make(MODELS[0]))
