"""Say in words what the next run of a study will do, and why.

What will run is Snakemake's own answer, from a dry run. Why is told by the artifacts: each carries
the specification and the code that it was made from, and these are compared with those that
Snakemake would now pass to the step. The same comparison finds what Snakemake's records take for up
to date by mistake.
"""

import json
import os
import shlex
import sys
import textwrap
from itertools import groupby
from pathlib import Path

from blindspots.artifacts import read_header, sidecar_path
from blindspots.errors import UserError
from blindspots.study.changes import difference
from blindspots.study.check import check, some
from blindspots.study.dry_run import dry_run
from blindspots.study.terminal import job_name, say

LISTED = 8


def why(job):
    """Return in words why a job will run."""
    if not job.outputs[0].exists():
        return "not there yet"
    found = _record(job.outputs[0])
    # Made from the same, but deleted or edited, or made anew further up: Snakemake says it.
    return (found and difference(found, job.spec, job.code)) or _short(job.reason)


def what_is_wrong(artifact):
    """Return in words why an artifact is not the study's."""
    if artifact.state == "damaged":
        return artifact.problem
    found, why = artifact.provenance, ""
    if _is_provenance(found):
        why = difference(found, json.loads(artifact.job.spec), artifact.job.code)
    return _short(why or "made by something else")


def strays(run):
    """Return the artifacts that the next run would leave, though they are not the study's.

    Parameters
    ----------
    run : DryRun

    Returns
    -------
    list of blindspots.study.check.Artifact
    """
    made_anew = {path for job in run.jobs for path in job.outputs}
    return [
        artifact
        for artifact in check(run.study, run.folder)
        if artifact.stray and artifact.path not in made_anew
    ]


def first_of(artifacts):
    """Return those of some artifacts that are made from none of the others."""
    jobs = {artifact.job for artifact in artifacts}
    return [artifact for artifact in artifacts if not jobs & set(artifact.job.upstream)]


def left_over(artifacts):
    """Return the artifacts of earlier configurations that are no longer part of the study."""
    known, found = set(artifacts), []
    for path in sorted(Path(os.path.commonpath(artifacts)).rglob("*")):
        described = path.with_suffix("")  # by a sidecar
        joined = path.parent.with_suffix(".safetensors")  # from this part and others
        if not known & {path, described, joined} and _is_record(path):
            found.append(described if described.exists() else path)
    return found


def in_words(run, left, wrong=()):
    """Return the answer as text.

    Parameters
    ----------
    run : DryRun
    left : list of pathlib.Path
        Artifacts that are no longer part of the study.
    wrong : list of blindspots.study.check.Artifact
        Artifacts that the next run would leave, though they are not the study's.
    """
    number, others = len(run.jobs), "all else" if run.jobs else "every artifact of the study"
    lines = [f"{number} job{'' if number == 1 else 's'} will run" if number else "Nothing will run"]
    if wrong:
        lines[0] += f"; by Snakemake's records {others} is up to date, but not in truth."
    else:
        lines[0] += f"{'; ' if number else ': '}{others} is up to date."
    lines += _grouped([(job.rule, why(job), str(job)) for job in run.jobs])
    if wrong:
        lines.append("Made from other settings or changed since, which Snakemake does not know:")
        lines += _grouped(
            [(a.job.rule, what_is_wrong(a), job_name(a.job.wildcards)) for a in wrong]
        )
        lines.append("To have them made anew, with all that follows from them:")
        lines.append(f"  rm {shlex.join(str(a.path) for a in first_of(wrong))}")
        lines.append("and run again.")
    if left:
        lines.append("No longer part of the study, and left where it is:")
        lines.append(f"  {some([str(path) for path in left], LISTED)}")
    return "\n".join(lines)


def _grouped(entries):
    """Yield lines on some (rule, cause, name), those of one rule and cause together."""
    for rule in dict.fromkeys(rule for rule, _, _ in entries):  # in the order of the run
        mine = sorted((cause, name) for other, cause, name in entries if other == rule)
        yield f"{rule.replace('_', ' ')} ({len(mine)})"
        for cause, group in groupby(mine, key=lambda pair: pair[0]):
            names = some([name for _, name in group if name], LISTED)
            yield f"  {names}: {cause}" if names else f"  {cause}"


def _short(text):
    return textwrap.shorten(text, 160, placeholder=" ...")


def _is_record(path):
    return path.suffix in (".safetensors", ".json") and _record(path) is not None


def _record(path):
    """Return the provenance that an artifact carries, or None where there is none to read."""
    try:
        if path.suffix == ".safetensors":
            found = read_header(path)
        else:
            own = path if path.suffix == ".json" else sidecar_path(path)
            found = json.loads(own.read_text(encoding="utf-8"))
        return found if _is_provenance(found) else None
    except (UserError, OSError, ValueError):
        return None


def _is_provenance(found):
    return (
        isinstance(found, dict)
        and isinstance(found.get("spec"), dict)
        and isinstance(found.get("code"), str)
    )


def main(arguments):
    """Print what the next run will do; ``arguments`` are snakemake's and name the configuration."""
    try:
        run = dry_run(arguments)
        study = run.study
        paths = [run.folder / path for job in study.jobs for path in job.paths]
        say(in_words(run, left_over(paths), strays(run)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
