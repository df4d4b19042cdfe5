"""Say in words what the next run of a study will do, and why.

What will run is Snakemake's own answer, from a dry run in this process, whose records of `logging`
tell each job in fields; so nothing depends on what a user's profile lets Snakemake print. Why is
told by the artifacts: each carries the specification and the code that it was made from, and these
are compared with those that Snakemake would now pass to the step. The same comparison finds what
Snakemake's records take for up to date by mistake.
"""

import contextlib
import io
import json
import os
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.logging import logger

from blindspots.artifacts import canonical_json, read_header, sidecar_path
from blindspots.errors import UserError
from blindspots.study.check import check, some
from blindspots.study.plan import SHORT
from blindspots.study.terminal import NOTHING_TO_DO, job_name, say

# What a profile could set so that no job would be told, or that no dry run needs.
DRY_RUN = ("--dry-run", "--quiet", "host", "--executor", "local")
LISTED = 8


@dataclass(frozen=True)
class PlannedJob:
    """A job of the next run.

    Attributes
    ----------
    rule : str
    wildcards : dict of str to str
    outputs : list of pathlib.Path
    spec : dict
        What it would be made from now.
    code : str
        Fingerprint of the code that would make it.
    reason : str
        Why Snakemake runs it, in Snakemake's words.
    """

    rule: str
    wildcards: dict
    outputs: list
    spec: dict
    code: str
    reason: str

    def __str__(self):
        return job_name(self.wildcards)


@dataclass
class DryRun:
    """What Snakemake said in a dry run.

    Attributes
    ----------
    jobs : list of PlannedJob
        What the next run will do.
    study : blindspots.study.plan.Study
        As the workflow has it.
    folder : pathlib.Path
        Where its artifacts lie.
    """

    jobs: list = field(default_factory=list)
    study: object = None
    folder: Path = None
    planned: bool = False
    errors: list = field(default_factory=list)

    def hear(self, record):
        """Take note of a record, and let nobody print it."""
        event = getattr(record, "event", None)
        if event == "job_info" and record.output:
            self.jobs.append(_planned_job(record))
        elif hasattr(record, "study"):
            self.study, self.folder = record.study, record.folder
        elif event == "run_info" or str(record.msg).startswith(NOTHING_TO_DO):
            self.planned = True
        elif record.levelname in ("ERROR", "CRITICAL"):
            self.errors.append(record.getMessage())
        return False


def dry_run(arguments):
    """Ask Snakemake what it would do.

    Parameters
    ----------
    arguments : sequence of str
        Snakemake's; they name the configuration.

    Returns
    -------
    DryRun

    Raises
    ------
    UserError
        If Snakemake refuses, or does something else than to plan.
    """
    run, printed, status = DryRun(), io.StringIO(), 0
    logger.addFilter(run.hear)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            snakemake([*DRY_RUN, *arguments])
    except SystemExit as error:
        status = error.code
    finally:
        logger.removeFilter(run.hear)
    if status:
        # Of the parser of options it prints all of them before what is wrong.
        told = "\n".join(run.errors) or re.split(r"\berror: ", printed.getvalue())[-1]
        raise UserError(f"snakemake cannot plan the study: {told.strip()}")
    if not run.planned or run.study is None:
        raise UserError(
            "snakemake planned nothing, but did something else that a profile of yours asks for; "
            "take it out, or set SNAKEMAKE_PROFILE=none"
        )
    return run


def _planned_job(record):
    words = shlex.split(record.shellcmd)
    return PlannedJob(
        record.rule_name,
        dict(record.wildcards),
        [Path(path) for path in record.output],
        json.loads(words[words.index("--spec") + 1]),
        words[words.index("--code") + 1],
        record.reason,
    )


def why(job):
    """Return in words why a job will run."""
    if not job.outputs[0].exists():
        return "not there yet"
    found = _record(job.outputs[0])
    # Made from the same, but deleted or edited, or made anew further up: Snakemake says it.
    return (found and _cause(found, job.spec, job.code)) or _short(job.reason)


def _cause(found, spec, code):
    """Return in words how what an artifact was made from differs from what it would be made from.

    Parameters
    ----------
    found : dict
        Its provenance.
    spec : dict
    code : str
    """
    causes = [*_changes(found["spec"], spec)]
    (step, *users), (new_step, *new_users) = found["code"].split("-"), code.split("-")
    causes += ["the code of the step"] if step != new_step else []
    causes += ["your own module"] if users != new_users else []
    return "; ".join(causes)


def what_is_wrong(study, artifact):
    """Return in words why an artifact is not the study's."""
    if artifact.state == "damaged":
        return artifact.problem
    found, cause = artifact.provenance, ""
    if _is_provenance(found):
        spec = json.loads(study.spec(artifact.step, **artifact.wildcards))
        cause = _cause(found, spec, study.code(artifact.step, **artifact.wildcards))
    return _short(cause or "made by something else")


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


def first_of(study, artifacts):
    """Return those of some artifacts that are made from none of the others."""
    digests = {study.digest(artifact.step, **artifact.wildcards)[:SHORT] for artifact in artifacts}

    def upstream(artifact):
        spec = json.loads(study.spec(artifact.step, **artifact.wildcards))
        return set(re.findall(f'"([0-9a-f]{{{SHORT}}})', canonical_json(spec.get("upstream"))))

    return [artifact for artifact in artifacts if not upstream(artifact) & digests]


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
            [(a.step, what_is_wrong(run.study, a), job_name(a.wildcards)) for a in wrong]
        )
        lines.append("To have them made anew, with all that follows from them:")
        lines.append(f"  rm {shlex.join(str(a.path) for a in first_of(run.study, wrong))}")
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


def _changes(old, new, where=""):
    """Yield in words how two specifications differ."""
    for key in sorted({*old, *new}):
        name = f"{where}{key}"
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if name == "upstream" and isinstance(before, dict) and isinstance(now, dict):
            inputs = [*_changed_inputs(before, now)]
            if inputs:
                yield f"changed input: {', '.join(inputs)}"
        elif isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{name}.")
        elif key not in old:
            yield f"{name} {_text(now)} is new"
        elif key not in new:
            yield f"{name} {_text(before)} is gone"
        elif _names(before) and _names(now) and (added_or_gone := [*_entries(before, now)]):
            yield f"{name}: {', '.join(added_or_gone)}"
        else:
            yield f"{name} {_text(before)} -> {_text(now)}"


def _changed_inputs(old, new, where=""):
    """Yield the inputs that are there before and now, and were made by other jobs."""
    for key in sorted(old.keys() & new.keys()):
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            yield from _changed_inputs(old[key], new[key], f"{key} ")
        elif old[key] != new[key]:
            yield f"{where}{key}"


def _names(value):
    """Tell whether a value is a list of things that have names, not of numbers."""
    return isinstance(value, list) and not any(isinstance(item, int | float) for item in value)


def _entries(old, new):
    yield from (f"{_text(item)} added" for item in new if item not in old)
    yield from (f"{_text(item)} removed" for item in old if item not in new)


def _text(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


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
        paths = [run.folder / path for step, w in study.jobs for path in study.outputs(step, **w)]
        say(in_words(run, left_over(paths), strays(run)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
