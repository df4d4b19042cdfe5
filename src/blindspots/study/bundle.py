"""Pack a finished study into one archive, to be cited, checked, and continued elsewhere.

    python -m blindspots.study.bundle digits

Runs in the folder of the project (``blindspots bundle digits``, ``make bundle STUDY=digits``) and
writes ``results/digits-bundle.tar.gz``. In the archive every file has the place that it has in the
project, so that it is unpacked over a checkout; Snakemake's own records go along, so that nothing
reruns there. The same files give the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from base64 import urlsafe_b64encode
from importlib.metadata import distributions
from pathlib import Path
from shutil import which

from blindspots.artifacts import atomic_path, file_digest
from blindspots.errors import UserError
from blindspots.study.check import check, in_a_line, with_provenance
from blindspots.study.dry_run import dry_run
from blindspots.study.terminal import say

CONFIG = "config.yaml"
# What tells a reader whose work this is, and which versions it asks for.
DOCUMENTS = ("CITATION.cff", "LICENSE", "envs/constraints.txt")
# One date for all files, so that none is newer than what was made from it; tar warns of 1970.
DATE = 315532800  # 1980-01-01


def outputs_of(run, name):
    """Return the paths of all that the jobs of a study make, which must be there and its own.

    Parameters
    ----------
    run : blindspots.study.dry_run.DryRun
    name : str
        Of the file in ``studies/``.
    """
    study = run.study
    artifacts = check(study, run.folder)
    if run.jobs:
        raise UserError(
            f"{len(run.jobs)} of the study's {len(artifacts)} jobs must still run, for "
            f"{run.jobs[0].outputs[0]} among others; finish it with `make run STUDY={name}`"
        )
    if any(artifact.state != "whole" for artifact in artifacts):
        raise UserError(in_a_line(study, artifacts))
    paths = [run.folder / path for job in study.jobs for path in job.paths]
    sidecars = [with_provenance(artifact.path) for artifact in artifacts]
    return [str(path) for path in dict.fromkeys([*paths, *sidecars])]


def record_of(output):
    """Return where Snakemake keeps its record of an output: base64, cut where it is too long."""
    name = urlsafe_b64encode(output.encode()).decode()
    size = os.pathconf(".", "PC_NAME_MAX") - 1
    *folders, last = [name[start : start + size] for start in range(0, len(name), size)]
    record = Path(".snakemake/metadata", *(f"@{folder}" for folder in folders), last)
    if not record.is_file():
        raise UserError(
            f"Snakemake has no record of {output}, which was copied here or made without one; "
            "delete it and run again"
        )
    return str(record)


def commit():
    """Return the commit that git names, ``-dirty`` if files differ from it; None without one."""
    if not Path(".git").exists() or which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def pack(path, files, texts):
    """Write an archive of files and of texts that are not files, in the order of their names."""
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6) as zipped,
        tarfile.open(mode="w", fileobj=zipped) as archive,
    ):
        for name in sorted([*files, *texts]):
            text = texts.get(name)
            with open(name, "rb") if text is None else io.BytesIO(text) as content:
                member = tarfile.TarInfo(name)
                member.size = content.seek(0, io.SEEK_END)
                member.mtime = DATE
                content.seek(0)
                archive.addfile(member, content)


def bundle(study):
    """Write the bundle of a study and return its path and the number of files in it."""
    # Who unpacks it has the files of the project, and not the profile of who packed it.
    run = dry_run(["--profile", "none", "--configfile", f"studies/{study}.yaml"])
    outputs = outputs_of(run, study)
    files = [*outputs, *map(record_of, outputs), CONFIG, f"studies/{study}.yaml", *DOCUMENTS]
    files += map(str, Path().glob("*.py"))  # networks and attacks of the user's own
    config = run.study.config
    about = {
        "study": config["study"],
        "commit": commit(),
        "config": config,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package.name: package.version for package in distributions()},
    }
    results = f"results/{config['study']}"
    texts = {f"{results}/bundle.json": f"{json.dumps(about, sort_keys=True, indent=1)}\n".encode()}
    digests = {name: file_digest(name) for name in files}
    digests |= {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    texts[f"{results}/SHA256SUMS"] = sums.encode()
    path = f"{results}-bundle.tar.gz"
    pack(path, files, texts)
    return path, len(files) + len(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", help="name of a file in studies/, without .yaml")
    try:
        path, count = bundle(parser.parse_args().study)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")
    say(f"{path}: {count} files, sha256 {file_digest(path)}")


if __name__ == "__main__":
    main()
