"""Files that steps hand to one another: written whole or not at all, and checked when read.

Every artifact carries its provenance: the job that made it (a digest of specification and code),
the specification, the versions of the libraries, and a digest of the content. Tensors lie in
safetensors files with the provenance in the header; text outputs have a sidecar
``<first output>.json``.
"""

import glob
import hashlib
import json
import os
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

from blindspots.errors import UserError

HEADER_KEY = "blindspots"


def canonical_json(value):
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


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


@contextmanager
def atomic_path(path):
    """Yield a unique temporary path in the folder of ``path`` and rename it on success.

    If the block raises, the temporary file is removed and ``path`` is left as it was. What a
    killed writer of the same path left behind is removed first; should it still be alive (an
    orphan of a killed run), its rename fails and ours counts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        stale.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask())  # writers of their own make it private
        with open(name, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path, text):
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = _content_digest(tensors, provenance)
    header = canonical_json({**provenance, "content": content})
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: header})


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
        raise UserError(
            f"{path} is damaged or not an artifact of blindspots; delete it and run again"
        ) from None


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
    text = json.dumps({**provenance, "content": content}, sort_keys=True, indent=1) + "\n"
    write_text(sidecar_path(outputs[0]), text)


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
    try:
        provenance = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
        recorded = provenance["content"][path.name]
        actual = file_digest(path)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; run snakemake to make it") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{sidecar_path(path)} is damaged; delete it and run again") from None
    _check_job(path, provenance.get("job"), job)
    if recorded != actual:
        raise UserError(f"{path} was changed after it was made; delete it and run again")


def _check_job(path, recorded, expected):
    if expected is not None and str(recorded)[: len(expected)] != expected:
        raise UserError(
            f"{path} was made by another configuration or other code; delete it and run again"
        )


def _content_digest(tensors, provenance):
    digest = hashlib.sha256(canonical_json(provenance).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(memoryview(array.reshape(-1)).cast("B") if array.size else b"")
    return digest.hexdigest()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
