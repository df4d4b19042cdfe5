"""What Snakemake would do, from a dry run in this process.

Its records of `logging` tell each job in fields; so nothing depends on what a user's profile lets
Snakemake print.
"""

import contextlib
import io
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.logging import logger

from blindspots.errors import UserError
from blindspots.study.terminal import NOTHING_TO_DO, job_name

# What a profile could set so that no job would be told, or that no dry run needs.
DRY_RUN = ("--dry-run", "--quiet", "host", "--executor", "local")
# What Snakemake puts around a sentence of ours: the line of our own file that passes it on.
IN_OUR_FILE = re.compile(
    r'^WorkflowError in file "[^"]*common\.smk", line \d+:\n(.*)\n +File "[^"]*".*$', re.DOTALL
)


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
    study : blindspots.study.study.Study
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
        told = IN_OUR_FILE.sub(r"\1", told.strip())
        raise UserError(f"snakemake cannot plan the study: {told}")
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
