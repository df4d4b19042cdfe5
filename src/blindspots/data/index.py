"""What planning has read of files, kept so that files that have not changed are not read again.

Planning runs at every start and in every cluster job. What it needs of a file (a digest, a size)
is read once, and kept as long as the file has the same length and dates. This is a cache: it lies
in Snakemake's folder below the working directory, may be deleted at any time, and two plannings at
once, or a folder that cannot be written to, do no harm.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blindspots.artifacts import atomic_path

FOLDER = Path(".snakemake/blindspots")
# A file that was changed within two seconds of being read may be changed once more without another
# date, for file systems count in ticks. What was read of it is not kept.
UNSETTLED = 2_000_000_000  # ns


class Index:
    """What is known by some names, each of which stands for files; a context that keeps it.

    Parameters
    ----------
    name : str
        What tells this index apart from others: a kind and a place.
    readers : sequence of path-like
        Python files whose code reads; other code reads anew.
    packages : sequence of str
        Libraries that read; other versions read anew.
    """

    def __init__(self, name, readers=(), packages=()):
        self.path = FOLDER / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.json"
        code = hashlib.sha256(b"".join(Path(reader).read_bytes() for reader in readers))
        self._of = [name, code.hexdigest(), *(f"{p} {_version(p)}" for p in packages)]
        self._entries, self._changed = self._read(), False
        self._started = time.time_ns()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        """Keep what is known, whatever has happened meanwhile."""
        if self._changed:
            text = json.dumps({"of": self._of, "entries": self._entries}, separators=(",", ":"))
            # A cache that cannot be kept is none.
            with suppress(OSError), atomic_path(self.path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def get(self, name, stamps):
        """Return what is known by a name, or None: nothing, or a file has changed since.

        Parameters
        ----------
        name : str
        stamps : list of list of int
            Of the files that it stands for, as `stamp` returns them.
        """
        kept = self._entries.get(name)
        return kept[1] if kept is not None and kept[0] == stamps else None

    def keep(self, name, stamps, value):
        """Keep what JSON can hold by a name, unless a file has been changed just now."""
        if all(changed < self._started - UNSETTLED for _, _, changed in stamps):
            self._entries[name], self._changed = [stamps, value], True

    def _read(self):
        with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged
            held = json.loads(self.path.read_bytes())
            if held["of"] == self._of and isinstance(held["entries"], dict):
                return held["entries"]
        return {}


def stamp(path):
    """Return what changes when a file does: its length, and two dates in ns.

    The first date is that of the content, which a copy may bring along; the second that of the last
    change of any kind, which nobody can set.

    Raises
    ------
    OSError
        If there is no such file.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
