"""Compare the artifacts of a study with its configuration, whatever Snakemake's records say.

Records and files come apart: by ``snakemake --touch``, triggers that are switched off, files that
were copied or edited. But every artifact carries the digest of the job that made it, and of its own
content.
"""

from dataclasses import dataclass
from pathlib import Path

from blindspots.artifacts import (
    file_digest,
    read_header,
    read_record,
    read_tensors,
    sidecar_path,
)
from blindspots.errors import UserError
from blindspots.study.jobs import Job

LISTED = 3


@dataclass(frozen=True)
class Artifact:
    """What one job of a study makes, as it is found.

    Attributes
    ----------
    job : blindspots.study.jobs.Job
    path : pathlib.Path
        The first of its files, or the one that something is wrong with.
    state : str
        ``"whole"``, ``"missing"``, ``"foreign"``: made by another job, or ``"damaged"``: or changed
        since it was made.
    provenance : dict or None
        What it says of the job that made it, where it can be read.
    problem : str
        What is wrong with a damaged one.
    """

    job: Job
    path: Path
    state: str
    provenance: dict | None = None
    problem: str = ""

    @property
    def stray(self):
        """Whether it is there and not the study's."""
        return self.state in ("foreign", "damaged")


def with_provenance(path):
    """Return the file that holds the provenance of an artifact: itself, or its sidecar."""
    return path if path.suffix in (".safetensors", ".json") else sidecar_path(path)


def check(study, folder, tensors=True):
    """Return the artifacts of a study, each as it is found.

    Parameters
    ----------
    study : blindspots.study.study.Study
    folder : path-like
        Where its artifacts lie.
    tensors : bool
        Read the tensors, too, and compare them with their digest; other files always are.

    Returns
    -------
    list of Artifact
        One for each job of the study, inputs first.
    """
    return [_found(job, Path(folder), tensors) for job in study.jobs]


def _found(job, folder, tensors):
    files = [folder / path for path in job.paths]
    told = with_provenance(files[0])
    for path in [*files, told]:
        if not path.exists():
            return Artifact(job, path, "missing")
    try:
        in_header = told.suffix == ".safetensors"
        provenance = read_header(told) if in_header else read_record(told)
        if provenance.get("job") != job.digest:
            return Artifact(job, files[0], "foreign", provenance)
        if in_header and tensors:
            read_tensors(told)
        if told not in files:
            for path in files:
                if file_digest(path) != provenance.get("content", {}).get(path.name):
                    problem = f"{path} was changed after it was made"
                    return Artifact(job, path, "damaged", problem=problem)
    except UserError as error:
        return Artifact(job, told, "damaged", problem=str(error).partition(";")[0])
    except OSError as error:
        problem = f"{error.filename or told}: {error.strerror}"
        return Artifact(job, told, "damaged", problem=problem)
    return Artifact(job, files[0], "whole", provenance)


def in_a_line(study, artifacts):
    """Return in one line whether artifacts are those of the study."""
    paths = {
        state: [str(artifact.path) for artifact in artifacts if artifact.state == state]
        for state in ("missing", "foreign", "damaged")
    }
    count = len(artifacts)
    line = f"study {study.name}: {count} artifacts"
    if paths["missing"]:
        line = f"study {study.name}: {count - len(paths['missing'])} of {count} artifacts are there"
    if not paths["foreign"] and not paths["damaged"]:
        return f"{line}, all made from this configuration"
    for state, said in (
        ("foreign", "made from another configuration"),
        ("damaged", "damaged or changed since"),
    ):
        if number := len(paths[state]):
            line += f"; {number} {'was' if number == 1 else 'were'} {said}: {some(paths[state])}"
    return f"{line}; `make plan` says what to do"


def some(names, listed=LISTED):
    """Return the first of some names, and how many more there are."""
    more = len(names) - listed
    return ", ".join(names[:listed]) + (f" and {more} more" if more > 0 else "")
