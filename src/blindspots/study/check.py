"""Compare the artifacts of a study with its configuration, whatever Snakemake's records say.

Records and files come apart: by ``snakemake --touch``, triggers that are switched off, files that
were copied or edited. But every artifact carries the digest of the job that made it, and of its own
content.
"""

from dataclasses import dataclass
from pathlib import Path

from blindspots.artifacts import check_artifact, read_header, read_record, sidecar_path
from blindspots.errors import UserError

LISTED = 3


@dataclass(frozen=True)
class Artifact:
    """What one job of a study makes, as it is found.

    Attributes
    ----------
    step : str
    wildcards : dict
    path : pathlib.Path
        The first of its files; of several the one that is missing.
    state : str
        ``"whole"``, ``"missing"``, ``"foreign"``: made by another job, or ``"damaged"``: or changed
        since it was made.
    provenance : dict or None
        What it says of the job that made it, where it can be read.
    problem : str
        What is wrong with a damaged one.
    """

    step: str
    wildcards: dict
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


def read_provenance(path):
    """Return the provenance of an artifact.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    path = with_provenance(path)
    return read_header(path) if path.suffix == ".safetensors" else read_record(path)


def check(study, folder, tensors=True):
    """Return the artifacts of a study, each as it is found.

    Parameters
    ----------
    study : blindspots.study.plan.Study
    folder : path-like
        Where its artifacts lie.
    tensors : bool
        Read the tensors, too, and compare them with their digest; other files always are.

    Returns
    -------
    list of Artifact
        One for each job of the study, inputs first.
    """
    return [_found(study, Path(folder), step, wildcards, tensors) for step, wildcards in study.jobs]


def _found(study, folder, step, wildcards, tensors):
    files = [folder / path for path in study.outputs(step, **wildcards)]
    first = files[0]
    for path in [*files, with_provenance(first)]:
        if not path.exists():
            return Artifact(step, wildcards, path, "missing")
    try:
        provenance = read_provenance(first)
        if provenance.get("job") != study.digest(step, **wildcards):
            return Artifact(step, wildcards, first, "foreign", provenance)
        if tensors or first.suffix != ".safetensors":
            check_artifact(with_provenance(first))
    except UserError as error:
        return Artifact(step, wildcards, first, "damaged", problem=str(error))
    return Artifact(step, wildcards, first, "whole", provenance)


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
