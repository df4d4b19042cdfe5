"""What every step shares: its command line, its log, its exit code and its provenance."""

import argparse
import contextlib
import errno
import json
import logging
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from blindspots.artifacts import bring_to_present, canonical_json, job_digest
from blindspots.errors import UserError
from blindspots.escapes import printable
from blindspots.progress import lead_nowhere
from blindspots.randomness import seed_globals

LOG = logging.getLogger(__name__)
SENTENCES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the folder is read-only",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENAMETOOLONG: "the name is too long",
}


@dataclass(frozen=True)
class Job:
    """One run of a step.

    Attributes
    ----------
    spec : dict
        All that determines the output's bytes, but for the code.
    code : str
        Fingerprint of the step's code.
    digest : str
        Identity of the job, from both.
    threads : int
        Threads granted.
    options : dict of str to str
        What it is told besides, on which no byte of its output depends.
    """

    spec: dict
    code: str
    digest: str
    threads: int
    options: dict = field(default_factory=dict)

    def upstream(self, name):
        """Return the digest that the job behind an input must have."""
        return self.spec["upstream"][name]

    def code_of_modules(self):
        """Return the fingerprints of the modules that the step looks up by name."""
        return dict(part.split("=") for part in self.code.split("-") if "=" in part)

    def provenance(self, **extra):
        """Return what an output records of this job."""
        return {
            "job": self.digest,
            "code": self.code,
            "spec": self.spec,
            "threads": self.threads,
            **extra,
        }


def run(main, reads, writes, options=""):
    """Run a step from its command line and leave with its exit code.

    The command line is ``input ... --to output ...``, options as the rule `step` gives them.

    Parameters
    ----------
    main : callable
        ``main(job, files)``, where files has a path for each name of ``reads`` and ``writes``.
    reads : str
        Names of the inputs, in the order of the rule; one may end in ``*``, which takes several or
        none: a list.
    writes : str
        Names of the outputs, in the order of the rule.
    options : str
        Names of what the step is told besides: `Job.options`.
    """
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    parser.add_argument("inputs", nargs="*", help=reads or "none")
    parser.add_argument("--to", nargs="+", required=True, metavar="OUTPUT", help=writes)
    parser.add_argument("--spec", required=True, help="canonical JSON of the job")
    parser.add_argument("--code", required=True, help="fingerprint of the step's code")
    parser.add_argument("--threads", type=int, default=1, help="threads to use")
    for name in options.split():
        parser.add_argument(f"--{name}", required=True)
    told = parser.parse_args()
    try:
        named = _named(reads.split(), told.inputs) | _named(writes.split(), told.to)
    except ValueError as error:
        parser.error(str(error))
    files = SimpleNamespace(**named)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _show_progress(told.to[0])
    # A polite kill unwinds the stack, so that temporary files are removed.
    signal.signal(signal.SIGTERM, _leave)
    try:
        spec = json.loads(told.spec)
        digest = job_digest(canonical_json(spec), told.code)
        wanted = spec.get("threads", told.threads)
        if told.threads < wanted:
            LOG.warning(
                "threads were capped at %d of %d (more with --cores); "
                "the results may differ in the last digits",
                told.threads,
                wanted,
            )
        _check_writable(told.to[0])
        seed_globals(int(digest[:15], 16))  # for the draws of other people's code
        bring_to_present([*told.inputs, *told.to])
        besides = {name: getattr(told, name) for name in options.split()}
        main(Job(spec, told.code, digest, told.threads, besides), files)
    except UserError as error:
        _fail(f"error: {error}")
    except OSError as error:
        if error.errno not in SENTENCES:
            raise
        _fail(f"error: {error.filename or 'writing'}: {SENTENCES[error.errno]}")
    except KeyboardInterrupt:
        sys.exit(130)


def _named(names, paths):
    """Return paths by their names; the one that ends in ``*`` gets what the others leave.

    Raises
    ------
    ValueError
        If there are more or fewer paths than names.
    """
    several = [position for position, name in enumerate(names) if name.endswith("*")]
    spare = len(paths) - len(names) + len(several)
    if spare < 0 or (spare and not several):
        raise ValueError(f"{len(paths)} paths for {' '.join(names) or 'nothing'}")
    found, rest = {}, list(paths)
    for name in names:
        count = spare if name.endswith("*") else 1
        taken, rest = rest[:count], rest[count:]
        found[name.rstrip("*")] = taken if name.endswith("*") else taken[0]
    return found


def _check_writable(output):
    """Raise OSError now if an output could not be written when it is there."""
    output = Path(output)
    if output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        error.filename = str(output)
        raise


def _fail(sentence):
    """Leave with a sentence in the log or, on a full disk that takes no log, on the terminal."""
    line = f"{printable(sentence)}\n"
    try:
        if sys.stderr:  # None: the step was started without one
            sys.stderr.write(line)
            sys.stderr.flush()
    except OSError:
        with contextlib.suppress(KeyError, OSError):
            os.write(int(os.environ["BLINDSPOTS_TERMINAL"]), line.encode())
    sys.exit(1)


def _show_progress(output):
    """Show progress on Snakemake's terminal, too, behind the name of the file that is made."""
    if os.environ.get("BLINDSPOTS_PROGRESS"):
        terminal = int(os.environ["BLINDSPOTS_TERMINAL"])  # a stream; stderr is the log
        handler = TerminalHandler(os.fdopen(terminal, "w"))
        handler.setFormatter(logging.Formatter(f"{output}: %(message)s"))
        logging.getLogger("blindspots.progress").addHandler(handler)


class TerminalHandler(logging.StreamHandler):
    """Writes to a terminal as long as it is there: the log has the same lines."""

    def handleError(self, record):  # noqa: N802
        """Forget the terminal."""
        lead_nowhere(self.stream)


def _leave(number, frame):
    sys.exit(128 + number)
