"""Files that steps hand to one another: written whole or not at all, and checked when read.

Every artifact carries its provenance: the job that made it (a digest of specification and code),
the specification, the versions of the libraries, and a digest of the content. Tensors lie in
safetensors files with the provenance in the header; text outputs have a sidecar
``<first output>.json``; sidecars, rows and cells are records: JSON objects with their own digest.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import struct
import tempfile
import time
from pathlib import Path

from blindspots.errors import UserError

HEADER_KEY = "blindspots"
# Temporary files are locked by their writer. The name of its machine is in theirs, because locks
# do not reach other machines on every file system.
HOST = os.uname().nodename
TEMPORARY = f".*.{glob.escape(HOST)}.*.tmp"


def canonical_json(value):
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN, no ``<``.

    Snakemake writes the parameters of jobs into a script of its report, which ``</script>`` ends.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c")


def job_digest(spec_json, code):
    """Return the identity of a job: SHA-256 over its canonical specification and its code.

    Parameters
    ----------
    spec_json : str
        Canonical JSON of the specification.
    code : str
        Fingerprint of the step's code.
    """
    return hashlib.sha256(f"{spec_json}\n{code}".encode()).hexdigest()


def file_digest(path):
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_path(path):
    """Yield a unique temporary path in the folder of ``path`` and rename it on success.

    If the block raises, the temporary file is removed and ``path`` is left as it was. What killed
    writers left in the folder is removed first. Two living writers of one path, such as a job and
    an orphan of a killed run, do not touch one another's file; the last to finish counts.

    Raises
    ------
    OSError
        Of the making and writing of the file; names ``path``.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent.glob(TEMPORARY))
        handle, name = _locked_temporary(path)
        try:
            yield Path(name)
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes it private
            with open(name, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        error.filename = str(path)  # else the temporary name, or none where a write failed
        raise


def remove_abandoned(paths):
    """Remove those temporary files that no living process holds the lock of."""
    for path in paths:
        with contextlib.suppress(OSError), open(path, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def bring_to_present(paths):
    """Give files whose date lies in the future, by a wrong clock or a copy, the present one.

    Snakemake refuses an output that is older than an input. No artifact is known by its date; the
    order of the dates is kept, for where Snakemake has no records it goes by that.

    Parameters
    ----------
    paths : iterable of path-like
        Files, with or without a sidecar, which has a date of its own; others are passed over.

    Raises
    ------
    UserError
        If a date cannot be changed.
    """
    paths = [Path(path) for path in paths]
    files = [file for path in paths for file in (path, sidecar_path(path)) if file.is_file()]
    dates = {file: os.lstat(file).st_mtime for file in files}
    for file in sorted(dates, key=dates.get):
        if dates[file] > time.time():
            try:
                os.utime(file, follow_symlinks=False)
            except OSError as error:
                raise UserError(
                    f"{file} has a date in the future, which cannot be changed "
                    f"({error.strerror}); let its owner `touch` it and run again"
                ) from None


def prepare_folder(folder):
    """Make a folder for results ready to be written to.

    What killed writers left anywhere below it is removed, and no date in it lies in the future:
    steps see to their own inputs, but what comes from a shared cache is made by none.

    Raises
    ------
    UserError
        If it or a folder below it cannot be written to, or a date cannot be changed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be made: {error.strerror}") from None
    for part in (folder, *folder.rglob("*/")):
        if not os.access(part, os.W_OK):
            raise UserError(f"{part} cannot be written to; make it writable and run again")
    remove_abandoned(folder.rglob(TEMPORARY))
    bring_to_present(folder.rglob("*"))


def write_bytes(path, content):
    """Write a file atomically.

    Libraries hand over bytes instead of writing files of their own: they make other temporary
    files, and say of a full disk what no caller understands.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path, text):
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_tensors(path, tensors, provenance):
    """Write named arrays and their provenance as one safetensors file, atomically.

    Parameters
    ----------
    path : path-like
    tensors : dict of str to numpy.ndarray
    provenance : dict
        JSON-able; ``job`` identifies the job. The digest of the content is added.
    """
    import numpy as np
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = _content_digest(tensors, provenance)
    header = canonical_json({**provenance, "content": content})
    write_bytes(path, save(tensors, metadata={HEADER_KEY: header}))


def read_header(path):
    """Return the provenance of a safetensors artifact without reading its tensors.

    Raises
    ------
    UserError
        If the file is missing, truncated or not an artifact of this project.
    """
    try:
        with open(path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100_000_000:
                raise ValueError("header too long")
            provenance = json.loads(json.loads(stream.read(length))["__metadata__"][HEADER_KEY])
            if not isinstance(provenance, dict):
                raise ValueError("not a provenance")
            return provenance
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run snakemake to make it") from None
    except (struct.error, ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(path) from None


def read_tensors(path, job=None):
    """Read an artifact and check that it is whole and the one that was asked for.

    Parameters
    ----------
    path : path-like
    job : str, optional
        Digest of the job that must have made the file, or how it begins.

    Returns
    -------
    tensors : dict of str to numpy.ndarray
    provenance : dict

    Raises
    ------
    UserError
        If the file is missing, damaged, or was made by another job.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    provenance = read_header(path)
    _check_job(path, provenance.get("job"), job)
    said = {key: value for key, value in provenance.items() if key != "content"}
    try:
        tensors = load_file(path)
        content = _content_digest(tensors, said)
    # The last three: types that numpy lacks, and numbers that JSON lacks.
    except (SafetensorError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path} is truncated or damaged; delete it and run again") from None
    if content != provenance.get("content"):
        raise UserError(f"{path} does not match its own digest; delete it and run again")
    return tensors, provenance


def write_record(path, record):
    """Write a JSON object and its own digest, atomically.

    Parameters
    ----------
    path : path-like
    record : dict
        JSON-able; its keys are strings.
    """
    sealed = {**record, "digest": _record_digest(record)}
    write_text(path, json.dumps(sealed, sort_keys=True, indent=1) + "\n")


def read_record(path, job=None):
    """Read a record and check that it is whole and the one that was asked for.

    Parameters
    ----------
    path : path-like
    job : str, optional
        Digest of the job that must have made the file.

    Returns
    -------
    dict

    Raises
    ------
    UserError
        If the file is missing, damaged, or was made by another job.
    """
    try:
        record = json.loads(Path(path).read_bytes())
        whole = record.pop("digest") == _record_digest(record)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run snakemake to make it") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged(path)
    _check_job(path, record.get("job"), job)
    return record


def write_sidecar(outputs, provenance):
    """Write the provenance of text or image outputs beside the first of them.

    Parameters
    ----------
    outputs : sequence of path-like
        Files already written, made by one job.
    provenance : dict
        As for `write_tensors`; the digest of each file is added.
    """
    outputs = [Path(path) for path in outputs]
    content = {path.name: file_digest(path) for path in outputs}
    write_record(sidecar_path(outputs[0]), {**provenance, "content": content})


def sidecar_path(output):
    """Return the path of the sidecar of a text or image output."""
    return Path(f"{output}.json")


def check_sidecar(path, job):
    """Check that a text output is the one that a given job wrote.

    Raises
    ------
    UserError
        If file or sidecar is missing, was made by another job, or was changed since.
    """
    path = Path(path)
    provenance = read_record(sidecar_path(path), job)
    _check_content(path, provenance.get("content", {}).get(path.name))


def _check_content(path, digest):
    try:
        actual = file_digest(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run snakemake to make it") from None
    if actual != digest:
        raise UserError(f"{path} was changed after it was made; delete it and run again")


def _check_job(path, recorded, expected):
    if expected is not None and str(recorded)[: len(expected)] != expected:
        raise UserError(
            f"{path} was made by another configuration or other code; delete it and run again"
        )


def _damaged(path):
    return UserError(f"{path} is damaged or not an artifact of blindspots; delete it and run again")


def _record_digest(record):
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


def _content_digest(tensors, provenance):
    digest = hashlib.sha256(canonical_json(provenance).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(memoryview(array.reshape(-1)).cast("B") if array.size else b"")
    return digest.hexdigest()


def _locked_temporary(path):
    """Make a temporary file beside ``path``; its lock lasts until the handle is closed."""
    while True:
        prefix = f".{path.name}.{HOST}."
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # taken for abandoned before it was locked


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
