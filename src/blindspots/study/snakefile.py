"""What the Snakefile asks for: the study behind a configuration, and how its steps are started."""

import os
import sys
from pathlib import Path
from shlex import quote

import yaml
from snakemake.common.configfile import load_configfile

from blindspots.errors import UserError
from blindspots.study.files import refuse_odd_path, refuse_other_name, refuse_repeated_keys
from blindspots.study.libraries import refuse_other_versions
from blindspots.study.study import Study
from blindspots.user_modules import search_path


def open_study(workflow, config, base):
    """Return the study of a configuration.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    config : dict
        As Snakemake merged it.
    base : pathlib.Path
        Folder of the Snakefile.

    Raises
    ------
    UserError
        A sentence for each mistake.
    """
    schema = yaml.safe_load((base / "workflow/schemas/config.schema.yaml").read_text())
    for folder in (base, Path(sys.executable).parent):
        refuse_odd_path(folder)
    files = [path for path in map(Path, workflow.configfiles) if path.is_file()]  # no pipes
    for path in files:
        refuse_repeated_keys(path, path.read_text(encoding="utf-8"))
    named = [path for path in files if path.parent.resolve() == base / "studies"]
    if named:
        refuse_other_name(named[-1], load_configfile(named[-1]).get("study"))
    if uses_conda(workflow):
        # Specifications tell the versions beside snakemake, steps run with the environment's.
        environment = yaml.safe_load((base / "envs/blindspots.yaml").read_text())
        pins = environment["dependencies"][-1]["pip"]
        refuse_other_versions(dict(pin.split("==") for pin in pins))
    given = workflow.config_settings.config  # by --config
    return Study(config, schema, base / "workflow/reference", search_path(), given)


def results_folder(workflow):
    """Return the folder of a study's results.

    Raises
    ------
    UserError
        If it or what lies above it is a file.
    """
    path = Path(workflow.pathvars.apply("<study>"))
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file where a folder of results should be; move it away")
    return path


def uses_conda(workflow):
    """Tell whether steps run in an environment that conda makes."""
    methods = (
        workflow.deployment_settings and workflow.deployment_settings.deployment_method
    ) or ()
    return any(method.name == "CONDA" for method in methods)


def shell_prefix(workflow, base):
    """Return what stands before every shell command.

    One for all, so that steps run the same in a virtual environment, under conda and as a module;
    Snakemake has one for all rules of all modules, so nothing of a single study may stand in it.
    Stream 3 is where Snakemake itself writes to: for what a step cannot write into its log.
    """
    # A step's output goes to its log; on a terminal its progress is shown there, too.
    quiet = {kind.name for kind in workflow.output_settings.quiet or ()} & {"PROGRESS", "ALL"}
    progress = "1" if sys.stderr and sys.stderr.isatty() and not quiet else ""
    terminal = "&2" if sys.stderr else os.devnull  # None: snakemake was started without one
    path = "" if uses_conda(workflow) else f"PATH={quote(str(Path(sys.executable).parent))}:$PATH "
    prefix = (
        f"set -euo pipefail; exec 3>{terminal}; export {path}BLINDSPOTS_TERMINAL=3"
        f" BLINDSPOTS_PROGRESS={progress}"
        f" PYTHONPATH={quote(str(base / 'src'))}:{quote(str(base))}${{PYTHONPATH:+:$PYTHONPATH}}; "
    )
    return prefix.replace("{", "{{").replace("}", "}}")  # which Snakemake formats
