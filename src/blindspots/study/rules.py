"""What rules take from the jobs of a study: inputs, outputs, params, resources."""

import os
from shlex import quote
from shutil import which

from snakemake.io import local, report

from blindspots.study.study import RULES


class Rules:
    """The jobs of a study, as Snakemake's rules take them.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    study : blindspots.study.study.Study
    folder : pathlib.Path
        Where its artifacts lie.
    """

    def __init__(self, workflow, study, folder):
        self.workflow, self.study, self.folder = workflow, study, folder

    def inputs(self, rule):
        """Return the function from wildcards to the inputs of a job, by name."""

        def found(wildcards):
            job = self._job(rule, wildcards)
            made = job.input_paths().items()
            paths = {name: [f"{self.folder}/{path}" for path in those] for name, those in made}
            # Relative: Snakemake records it, and a project that is moved must not rerun them.
            given = {
                name: [local(os.path.relpath(path)) for path in those]
                for name, those in job.files.items()
            }
            return paths | given

        return found

    def outputs(self, rule, **flags):
        """Return the outputs of a rule, by name; a flag is a function of path and rule."""
        paths = {name: f"<study>/{path}" for name, path in RULES[rule].outputs.items()}
        return {n: flags[n](path, rule) if n in flags else path for n, path in paths.items()}

    def shown(self, category, subcategory, **labels):
        """Return the flag of an output that the report shows, with the caption of its rule."""

        def flagged(path, rule):
            return report(
                path,
                caption=f"captions/{rule}.rst",
                category=category,
                subcategory=subcategory,
                labels=labels,
            )

        return flagged

    def job(self, rule):
        """Return the params of a rule. Snakemake does not record those that take `output`."""

        def options(wildcards, output):
            told = self._job(rule, wildcards).options
            return " ".join(f"--{name} {quote(value)}" for name, value in told.items())

        return {
            "spec": lambda wildcards: self._job(rule, wildcards).spec,
            "code": lambda wildcards: self._job(rule, wildcards).code,
            "module": lambda wildcards, output: self._job(rule, wildcards).module,
            "options": options,
        }

    def gpus(self, wildcards):
        """Return the GPUs that a job asks for: one on a cluster, and here if there is one."""
        device = self.study.config["device"]
        here = device == "cuda" or which("nvidia-smi") is not None
        return int(device != "cpu" and (here or not self.workflow.local_exec))

    def _job(self, rule, wildcards):
        """Return the job of a rule; seeds and parts are numbers."""
        typed = {k: int(v) if k in ("seed", "part") else v for k, v in wildcards.items()}
        return self.study.job(rule, **typed)


def needs(megabytes, minutes, **others):
    """Return the resources of a job: memory and time, more of both each time that it has failed."""

    def mem_mb(wildcards, attempt):
        return megabytes * attempt

    def runtime(wildcards, attempt):
        return minutes * attempt

    return {"mem_mb": mem_mb, "runtime": runtime, **others}
