"""Say in words what the next run of a study will do, and why.

What will run is Snakemake's own answer, from its dry run. Why is told by the artifacts: each
carries the specification and the code that it was made from, and these are compared with those
that Snakemake would now pass to the step.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from blindspots.artifacts import read_header, sidecar_path
from blindspots.errors import UserError

# Forcing the target, which makes nothing, has it printed, and with it the list of all artifacts.
DRY_RUN = ("--dry-run", "--printshellcmds", "--forcerun", "all")
BLOCK = re.compile(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)(?:Shell command: (.*))?", re.MULTILINE)
LISTED = 8


@dataclass(frozen=True)
class PlannedJob:
    """A job of the next run.

    Attributes
    ----------
    rule : str
    wildcards : dict of str to str
    output : pathlib.Path
        The first of its outputs.
    spec : dict
        What it would be made from now.
    code : str
        Fingerprint of the code that would make it.
    reason : str
        Why Snakemake runs it, in Snakemake's words.
    """

    rule: str
    wildcards: dict
    output: Path
    spec: dict
    code: str
    reason: str

    def __str__(self):
        values = (f"seed {v}" if k == "seed" else v for k, v in self.wildcards.items())
        return " ".join(values)


def planned_jobs(dry_run):
    """Return the jobs that a dry run lists, and the paths of all artifacts of the study.

    Parameters
    ----------
    dry_run : str
        What ``snakemake`` with the options `DRY_RUN` printed.

    Returns
    -------
    jobs : list of PlannedJob
    artifacts : list of pathlib.Path
    """
    jobs, artifacts = [], []
    for rule, block, command in BLOCK.findall(dry_run):
        said = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        if rule == "all":
            artifacts = [Path(path) for path in said["input"].split(", ")]
            continue
        words = shlex.split(command)
        wildcards = said.get("wildcards")
        jobs.append(
            PlannedJob(
                rule,
                dict(pair.split("=", 1) for pair in wildcards.split(", ")) if wildcards else {},
                Path(said["output"].split(", ")[0]),
                json.loads(words[words.index("--spec") + 1]),
                words[words.index("--code") + 1],
                said["reason"],
            )
        )
    return jobs, artifacts


def why(job):
    """Return in words why a job will run."""
    if not job.output.exists():
        return "not there yet"
    found = _record(job.output)
    causes = []
    if found is not None:
        causes = [*_changes(found["spec"], job.spec)]
        (step, *users), (new_step, *new_users) = found["code"].split("-"), job.code.split("-")
        causes += ["the code of the step"] if step != new_step else []
        causes += ["your own module"] if users != new_users else []
    # Made from the same, but deleted or edited, or made anew further up: Snakemake says it.
    return "; ".join(causes) or textwrap.shorten(job.reason, 160, placeholder=" ...")


def left_over(artifacts):
    """Return the artifacts of earlier configurations that are no longer part of the study."""
    known, found = set(artifacts), []
    for path in sorted(Path(os.path.commonpath(artifacts)).rglob("*")):
        described = path.with_suffix("")  # by a sidecar
        joined = path.parent.with_suffix(".safetensors")  # from this part and others
        if not known & {path, described, joined} and _is_record(path):
            found.append(described if described.exists() else path)
    return found


def in_words(jobs, left):
    """Return the answer as text.

    Parameters
    ----------
    jobs : list of PlannedJob
    left : list of pathlib.Path
        Artifacts that are no longer part of the study.
    """
    if jobs:
        plural = "" if len(jobs) == 1 else "s"
        lines = [f"{len(jobs)} job{plural} will run; all else is up to date."]
    else:
        lines = ["Nothing will run: every artifact of the study is up to date."]
    rules = dict.fromkeys(job.rule for job in jobs)  # in the order of the run
    for rule in rules:
        mine = sorted((why(job), str(job)) for job in jobs if job.rule == rule)
        lines.append(f"{rule.replace('_', ' ')} ({len(mine)})")
        for cause, group in groupby(mine, key=lambda pair: pair[0]):
            names = _some([name for _, name in group if name])
            lines.append(f"  {names}: {cause}" if names else f"  {cause}")
    if left:
        lines.append("No longer part of the study, and left where it is:")
        lines.append(f"  {_some([str(path) for path in left])}")
    return "\n".join(lines)


def _changes(old, new, where=""):
    """Yield in words how two specifications differ."""
    for key in sorted({*old, *new}):
        name = f"{where}{key}"
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if name == "upstream":
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
        if isinstance(old[key], dict):
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


def _some(names):
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


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
        return found if {"spec", "code"} <= found.keys() else None
    except (UserError, OSError, ValueError, AttributeError):
        return None


def main(arguments):
    """Print what the next run will do; ``arguments`` are snakemake's and name the configuration."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *DRY_RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",  # of a path that is not UTF-8
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        return done.returncode
    jobs, artifacts = planned_jobs(done.stdout)
    print(in_words(jobs, left_over(artifacts)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
