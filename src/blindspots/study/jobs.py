"""What a job of a study is: what it is made from, and what else determines its bytes."""

from dataclasses import dataclass, field
from functools import cached_property
from shlex import quote

from blindspots.artifacts import canonical_json, job_digest
from blindspots.errors import UserError

LONGEST = 120_000  # characters of a command, which may have 128 KiB; the rest is for the folder
FEW = 100  # inputs that any command can name
SHORT = 12  # hexadecimal digits by which jobs with many inputs know each of them
PROVENANCE = "provenance"  # the name of a sidecar among outputs


def makes(**outputs):
    """Return a decorator for the function that describes the jobs of one rule.

    The function is called ``(study, **wildcards)`` and returns a `Job`; its name is the rule's.

    Parameters
    ----------
    **outputs : str
        What a job makes: names and paths below the folder of the study, with the wildcards in
        braces; a sidecar, under the name ``provenance``, last.
    """

    def mark(function):
        function.outputs = outputs
        return function

    return mark


def table(stem, *suffixes):
    """Return the outputs of a table: CSV, other formats by suffix, and the sidecar."""
    return {suffix: f"{stem}.{suffix}" for suffix in ("csv", *suffixes)} | {
        PROVENANCE: f"{stem}.csv.json"
    }


def figure(stem, suffix="svg"):
    """Return the outputs of a figure: for the screen, for paper, and the sidecar."""
    first = f"{stem}.{suffix}"
    return {"figure": first, "pdf": f"{stem}.pdf", PROVENANCE: f"{first}.json"}


@dataclass(eq=False)
class Job:
    """One job. All that is said of it elsewhere follows from this.

    Attributes
    ----------
    inputs : dict of str to Job, list of Job or dict of str to Job
        The jobs that it is made from, by the names that the step knows them by.
    settings : dict
        All else that determines the output's bytes.
    files : dict of str to list of str
        Inputs that no job makes; the settings hold what tells their content.
    options : dict of str to str
        What the step is told besides, on which no byte depends: where to look for data.
    references : sequence of str
        Users' code that the step runs, each ``module:name``.
    modules : sequence of str
        Modules of this package that the step looks up by their name.
    module : str
        The step; the module of the rule's name beside the plan, unless given.
    like : Job or None
        The job whose specification and code this one has: it brings together what the other would
        make alone.
    rule, wildcards, outputs : str, dict, dict of str to str
        Set by the study: outputs are paths below its folder, by name.
    code : str
        Set by the study: fingerprint of the code.
    """

    inputs: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    references: tuple = ()
    modules: tuple = ()
    module: str = ""
    like: "Job | None" = None
    rule: str = ""
    wildcards: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    code: str = ""

    @property
    def paths(self):
        """What it makes, sidecars apart."""
        return [path for name, path in self.outputs.items() if name != PROVENANCE]

    @cached_property
    def spec(self):
        """The specification as canonical JSON."""
        if self.like:
            return self.like.spec
        upstream = {name: _digests(jobs) for name, jobs in self.inputs.items()}
        return canonical_json(self.settings | ({"upstream": upstream} if upstream else {}))

    @cached_property
    def digest(self):
        """The identity of the job."""
        return job_digest(self.spec, self.code)

    @cached_property
    def upstream(self):
        """The jobs that it is made from, each once."""
        found = [job for jobs in self.inputs.values() for job in _flat(jobs)]
        return list(dict.fromkeys(found + ([self.like] if self.like else [])))

    def input_paths(self):
        """Return the paths of its inputs, by name, in the order in which the step reads them.

        Of a job that makes several files all are inputs: the first by the name of the input, the
        others by their own. Paths of other jobs are below the folder of the study.

        Returns
        -------
        dict of str to list of str
        """
        found = {}
        for name, jobs in self.inputs.items():
            if isinstance(jobs, Job):
                first, *others = jobs.outputs
                found[name] = [jobs.outputs[first]]
                found |= {other: [jobs.outputs[other]] for other in others}
            else:
                found[name] = [next(iter(job.outputs.values())) for job in _flat(jobs)]
        return found


def refuse_long(job, folder):
    """Raise UserError if a command cannot hold what is said of a job: inputs and specification."""
    several = {name: jobs for name, jobs in job.inputs.items() if not isinstance(jobs, Job)}
    count = sum(map(len, several.values()))
    if count < FEW and len(job.settings) < FEW:
        return
    paths = [path for those in job.input_paths().values() for path in those]
    length = len(quote(canonical_json(job.settings))) + count * (SHORT + 3)
    length += sum(len(folder) + len(path) + 1 for path in paths)
    length += sum(len(n) + 3 for jobs in several.values() if isinstance(jobs, dict) for n in jobs)
    if length > LONGEST:
        most = max(several, key=lambda name: len(several[name]), default="")
        what = f"{len(several[most])} {most}" if several else f"the settings of {job.rule}"
        raise UserError(
            f"{what} are more than one command can name; split the study into several, for "
            "instance one for each seed"
        )


def _flat(jobs):
    if isinstance(jobs, Job):
        return [jobs]
    return list(jobs.values()) if isinstance(jobs, dict) else jobs


def _digests(jobs):
    """Return the digest of one job, or the beginnings of those of several.

    A command is one argument to the shell, at most 128 KiB.
    """
    if isinstance(jobs, Job):
        return jobs.digest
    if isinstance(jobs, dict):
        return {name: job.digest[:SHORT] for name, job in jobs.items()}
    return [job.digest[:SHORT] for job in jobs]
