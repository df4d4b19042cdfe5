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
from dataclasses import dataclass
from pathlib import Path

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
    """

    spec: dict
    code: str
    digest: str
    threads: int

    def upstream(self, name):
        """Return the digest that the job behind an input must have."""
        return self.spec["upstream"][name]

    def provenance(self, **extra):
        """Return what an output records of this job."""
        return {
            "job": self.digest,
            "code": self.code,
            "spec": self.spec,
            "threads": self.threads,
            **extra,
        }


def run(main, arguments):
    """Run a step from its command line and leave with its exit code.

    Parameters
    ----------
    main : callable
        ``main(job, options)``.
    arguments : dict of str to str
        Names of the step's own options and their help; a name that ends in ``*`` takes several
        values.
    """
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    parser.add_argument("--spec", required=True, help="canonical JSON of the job")
    parser.add_argument("--code", required=True, help="fingerprint of the step's code")
    parser.add_argument("--threads", type=int, default=1, help="threads to use")
    for name, text in arguments.items():
        several = {"nargs": "*"} if name.endswith("*") else {}
        parser.add_argument(f"--{name.rstrip('*')}", required=True, help=text, **several)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if "output" in options:
        _show_progress(options.output)
    # A polite kill unwinds the stack, so that temporary files are removed.
    signal.signal(signal.SIGTERM, _leave)
    try:
        spec = json.loads(options.spec)
        digest = job_digest(canonical_json(spec), options.code)
        wanted = spec.get("threads", options.threads)
        if options.threads < wanted:
            LOG.warning(
                "threads were capped at %d of %d (more with --cores); "
                "the results may differ in the last digits",
                options.threads,
                wanted,
            )
        for name in ("output", "csv"):
            if name in options:
                _check_writable(getattr(options, name))
        seed_globals(int(digest[:15], 16))  # for the draws of other people's code
        for name in arguments:
            value = getattr(options, name.rstrip("*"))
            bring_to_present(value if isinstance(value, list) else [value])
        main(Job(spec, options.code, digest, options.threads), options)
    except UserError as error:
        _fail(f"error: {error}")
    except OSError as error:
        if error.errno not in SENTENCES:
            raise
        _fail(f"error: {error.filename or 'writing'}: {SENTENCES[error.errno]}")
    except KeyboardInterrupt:
        sys.exit(130)


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
