# The only Python of the workflow: the study, and functions that rules refer to.
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from shutil import which

import yaml
from snakemake.common.configfile import load_configfile

# The folder of this Snakefile; workflow.basedir is the importer's when this runs as a module.
BASE = Path(workflow.snakefile).resolve().parents[2]
sys.path.insert(0, str(BASE / "src"))
package = find_spec("blindspots")
origin = package and package.origin
if origin is None or not Path(origin).resolve().is_relative_to(BASE):
    raise WorkflowError(
        "a workflow imports blindspots from one checkout on this machine: "
        "give each `snakefile:` the path of the same one"
    )

from blindspots.artifacts import prepare_folder
from blindspots.errors import UserError
from blindspots.study.check import check, in_a_line
from blindspots.study.config import refuse_odd_path, refuse_other_name, refuse_repeated_keys
from blindspots.study.plan import OUTPUTS, Study, refuse_other_versions
from blindspots.study.terminal import attend, guard_report

# Users' modules are looked for where their steps will find them, in this order.
MODULE_PATH = [
    os.getcwd(),
    str(BASE),
    *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
]
SCHEMA = yaml.safe_load((BASE / "workflow/schemas/config.schema.yaml").read_text())
REFERENCE = BASE / "workflow/reference"

try:
    for folder in (BASE, Path(sys.executable).parent):
        refuse_odd_path(folder)
    files = [path for path in map(Path, workflow.configfiles) if path.is_file()]  # no pipes
    for path in files:
        refuse_repeated_keys(path, path.read_text(encoding="utf-8"))
    named = [path for path in files if path.parent.resolve() == BASE / "studies"]
    if named:
        refuse_other_name(named[-1], load_configfile(named[-1]).get("study"))
    given = workflow.config_settings.config  # by --config
    study = Study(config, SCHEMA, REFERENCE, MODULE_PATH, given)
except UserError as error:
    raise WorkflowError(str(error))

# What the report's captions read. A copy, for importers may use their configuration twice.
config = {**config, "captions": study.captions()}


pathvars:
    study=f"<results>/{study.name}",


FOLDER = Path(workflow.pathvars.apply("<study>"))
for folder in (FOLDER, *FOLDER.parents):
    if folder.exists() and not folder.is_dir():
        raise WorkflowError(f"{folder} is a file where a folder of results should be; move it away")

ENVIRONMENT = "../../envs/blindspots.yaml"
DOWNLOAD = int(study.config["download"])


if workflow.is_main_process:  # cluster jobs read this file, too
    guard_report(logger, study, FOLDER)
    if workflow.modifier.is_main_snakefile():  # what an importer shows is its own affair
        attend(logger, study, FOLDER, workflow.output_settings)

# A step's output goes to its log; on a terminal its progress is shown there, too, unless --quiet.
QUIET = {kind.name for kind in workflow.output_settings.quiet or ()} & {"PROGRESS", "ALL"}
PROGRESS = "1" if sys.stderr and sys.stderr.isatty() and not QUIET else ""
TERMINAL = "&2" if sys.stderr else os.devnull  # None: snakemake was started without one

# One prefix, so that steps run the same in a virtual environment, under conda and as a module.
# Snakemake has one for all rules of all modules, so nothing of a single study may stand in it.
# Stream 3 is where Snakemake itself writes to: for what a step cannot write into its log.
with_conda = workflow.deployment_settings and any(
    method.name == "CONDA" for method in workflow.deployment_settings.deployment_method
)
if with_conda:
    # Specifications tell the versions beside snakemake, steps run with those of the environment.
    pins = yaml.safe_load((BASE / "envs/blindspots.yaml").read_text())["dependencies"][-1]["pip"]
    try:
        refuse_other_versions(dict(pin.split("==") for pin in pins))
    except UserError as error:
        raise WorkflowError(str(error))
python_path = "" if with_conda else f"PATH={quote(str(Path(sys.executable).parent))}:$PATH "
prefix = (
    f"set -euo pipefail; exec 3>{TERMINAL}; export {python_path}BLINDSPOTS_TERMINAL=3"
    f" BLINDSPOTS_PROGRESS={PROGRESS}"
    f" PYTHONPATH={quote(str(BASE / 'src'))}:{quote(str(BASE))}${{PYTHONPATH:+:$PYTHONPATH}}; "
)
shell.prefix(prefix.replace("{", "{{").replace("}", "}}"))  # which Snakemake formats


onstart:
    try:
        prepare_folder(FOLDER)
    except UserError as error:
        raise WorkflowError(str(error))


onsuccess:
    logger.info(in_a_line(study, check(study, FOLDER, tensors=False)))


wildcard_constraints:
    model="[A-Za-z][A-Za-z0-9_-]*",
    attack="[A-Za-z][A-Za-z0-9_-]*",
    pool="[A-Za-z][A-Za-z0-9_-]*",
    experiment="[A-Za-z][A-Za-z0-9_-]*",
    table="[A-Za-z][A-Za-z0-9_-]*",
    grid="[A-Za-z][A-Za-z0-9_-]*",
    seed="[0-9]+",
    part="[0-9]+",


MODEL, SET, ROW, NOISE_ROW = (
    f"<study>/{OUTPUTS[step][0]}"
    for step in ("train_model", "generate_adversarial_set", "evaluate_transfer", "evaluate_noise")
)
PART = "<study>/adversarial/{model}/seed{seed}/{attack}.parts/{part}.safetensors"


def typed(wildcards):
    """Return wildcards as the study knows them: seeds and parts are numbers."""
    return {k: int(v) if k in ("seed", "part") else v for k, v in wildcards.items()}


def either(names):
    """Return the pattern of a wildcard that is one of some names; of none, it matches nothing."""
    return "|".join(names) or "(?!)"


def spec_of(step):
    """Return the function from wildcards to a job's specification."""

    def spec(wildcards):
        return study.spec(step, **typed(wildcards))

    return spec


def code_of(step):
    """Return the function from wildcards to the fingerprint of a job's code."""

    def code(wildcards):
        return study.code(step, **typed(wildcards))

    return code


def untracked(value):
    """Return a function for a param that Snakemake does not record, because it takes `output`."""

    def param(wildcards, output):
        return value

    return param


def gpus(wildcards):
    """Return the GPUs that a job asks for: one on a cluster, and here if this machine has one."""
    device = study.config["device"]
    here = device == "cuda" or which("nvidia-smi") is not None
    return int(device != "cpu" and (here or not workflow.local_exec))


def growing(megabytes):
    """Return the function that gives a job this memory, and more each time that it has failed."""

    def mem_mb(wildcards, attempt):
        return megabytes * attempt

    return mem_mb


def parts_of_set(wildcards):
    """Return the parts of an adversarial set, in order."""
    count = study.config["attacks"][wildcards.attack]["parts"]
    return expand(PART, part=range(count), **dict(wildcards.items()))


def victims_of_row(wildcards):
    """Return the models that a set is evaluated on."""
    names = study.row_victims(wildcards.model, wildcards.attack)
    return expand(MODEL, model=names, seed=wildcards.seed)


def victims_of_pool(wildcards):
    """Return the models that clean and noisy images of a split are evaluated on."""
    return expand(MODEL, model=study.noise_victims(wildcards.pool), seed=wildcards.seed)


def paths_of(jobs):
    """Return the paths of all that jobs make, sidecars apart."""
    return [
        f"<study>/{path}" for step, wildcards in jobs for path in study.outputs(step, **wildcards)
    ]


def sets_of_experiment(wildcards):
    """Return the adversarial sets of an experiment, sources first, then seeds."""
    entry = study.config["experiments"][wildcards.experiment]
    return expand(SET, model=entry["sources"], seed=study.seeds, attack=entry["attack"])


def printed_numbers(wildcards):
    """Return the file of printed numbers of a table, if it has one."""
    name = study.config["tables"][wildcards.table].get("printed")
    if not name or study.config["dataset"] != "mnist":
        return []
    # Relative: Snakemake records it, and a project that is moved must not rerun its tables.
    return local(os.path.relpath(REFERENCE / name))


def set_of_grid(wildcards):
    """Return the adversarial set that an image grid shows."""
    entry = study.config["figures"]["examples"][wildcards.grid]
    return SET.format(model=entry["source"], seed=study.seeds[0], attack=entry["attack"])
