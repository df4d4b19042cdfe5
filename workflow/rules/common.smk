# The only Python of the workflow: the study, and functions that rules refer to.
import os
import sys
from pathlib import Path
from shutil import which

import yaml

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE / "src"))

from blindspots.errors import UserError
from blindspots.study.plan import Study

# Users' modules are looked for where their steps will find them.
MODULE_PATH = [str(BASE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
SCHEMA = yaml.safe_load((BASE / "workflow/schemas/config.schema.yaml").read_text())
REFERENCE = BASE / "workflow/reference"

try:
    study = Study(config, SCHEMA, REFERENCE, MODULE_PATH)
except UserError as error:
    raise WorkflowError(str(error))


pathvars:
    study=f"<results>/{study.name}",


CELLS = workflow.pathvars.apply("<study>/cells")
ENVIRONMENT = "../../envs/blindspots.yaml"
DATA_ROOT = os.environ.get("BLINDSPOTS_DATA") or study.config["data_root"]
DOWNLOAD = int(study.config["download"])

# A step's output goes to its log; on a terminal its progress is shown there, too, unless --quiet.
QUIET = {kind.name for kind in workflow.output_settings.quiet or ()} & {"PROGRESS", "ALL"}
SHOW_PROGRESS = sys.stderr.isatty() and not QUIET

# One prefix, so that steps run the same in a virtual environment, under conda and as a module.
with_conda = workflow.deployment_settings and any(
    method.name == "CONDA" for method in workflow.deployment_settings.deployment_method
)
python_path = "" if with_conda else f"PATH={str(Path(sys.executable).parent)!r}:$PATH "
shell.prefix(
    f"set -euo pipefail; export {python_path}"
    f"PYTHONPATH={str(BASE / 'src')!r}:{str(BASE)!r}${{{{PYTHONPATH:+:$PYTHONPATH}}}} "
    f"BLINDSPOTS_DATA={DATA_ROOT!r} BLINDSPOTS_DOWNLOAD={DOWNLOAD} BLINDSPOTS_CELLS={CELLS!r}; "
    + ("exec 3>&2; export BLINDSPOTS_TERMINAL=3; " if SHOW_PROGRESS else "")
)


wildcard_constraints:
    model="[A-Za-z][A-Za-z0-9_-]*",
    attack="[A-Za-z][A-Za-z0-9_-]*",
    pool="[A-Za-z][A-Za-z0-9_-]*",
    experiment="[A-Za-z][A-Za-z0-9_-]*",
    table="[A-Za-z][A-Za-z0-9_-]*",
    grid="[A-Za-z][A-Za-z0-9_-]*",
    seed="[0-9]+",


MODEL = "<study>/models/{model}/seed{seed}.safetensors"
SET = "<study>/adversarial/{model}/seed{seed}/{attack}.safetensors"
ROW = "<study>/rows/{model}/seed{seed}/{attack}.json"
NOISE_ROW = "<study>/rows/noise/seed{seed}/{pool}.json"
FIGURES = "<study>/figures"


def typed(wildcards):
    """Return wildcards as the study knows them: seeds are numbers."""
    return {k: int(v) if k == "seed" else v for k, v in wildcards.items()}


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


def gpus(wildcards):
    """Return the GPUs that a job asks for: one on a cluster, and here if this machine has one."""
    device = study.config["device"]
    here = device == "cuda" or which("nvidia-smi") is not None
    return int(device != "cpu" and (here or not workflow.local_exec))


def victims_of_row(wildcards):
    """Return the models that a set is evaluated on."""
    names = study.row_victims(wildcards.model, wildcards.attack)
    return expand(MODEL, model=names, seed=wildcards.seed)


def victims_of_pool(wildcards):
    """Return the models that clean and noisy images of a split are evaluated on."""
    return expand(MODEL, model=study.noise_victims(wildcards.pool), seed=wildcards.seed)


def row_paths():
    """Return the paths of all rows, in the order of the transfer table."""
    patterns = {"evaluate_transfer": ROW, "evaluate_noise": NOISE_ROW}
    return [patterns[step].format(**wildcards) for step, wildcards in study.row_jobs]


def sets_of_experiment(wildcards):
    """Return the adversarial sets of an experiment, sources first, then seeds."""
    entry = study.config["experiments"][wildcards.experiment]
    return expand(SET, model=entry["sources"], seed=study.seeds, attack=entry["attack"])


def printed_numbers(wildcards):
    """Return the file of printed numbers of a table, if it has one."""
    name = study.config["tables"][wildcards.table].get("printed")
    return str(REFERENCE / name) if name and study.config["dataset"] == "mnist" else []


def set_of_grid(wildcards):
    """Return the adversarial set that an image grid shows."""
    entry = study.config["figures"]["examples"][wildcards.grid]
    return SET.format(model=entry["source"], seed=study.seeds[0], attack=entry["attack"])


def all_artifacts():
    """Return the paths of every artifact of the study."""
    grids = study.config["figures"]["examples"]
    adversarial = [name for name, grid in grids.items() if "source" in grid]
    noisy = [name for name, grid in grids.items() if "noise" in grid]
    paths = ["<study>/data.safetensors", "<study>/transfer.csv"]
    paths += expand("<study>/engines.{format}", format=["csv", "html"])
    paths += expand(MODEL, model=study.used_models, seed=study.seeds)
    for model, attack in study.sets:
        paths += expand(SET, model=model, attack=attack, seed=study.seeds)
    paths += row_paths()
    paths += expand(
        "<study>/tables/{table}.{format}",
        table=study.config["tables"],
        format=["csv", "md", "tex", "html"],
    )
    for kind in ("transfer", "error_curves", "distortions"):
        paths += expand(f"{FIGURES}/{kind}/{{name}}.svg", name=study.config["experiments"])
    paths += expand(f"{FIGURES}/adversarial_examples/{{grid}}.png", grid=adversarial)
    paths += expand(f"{FIGURES}/noise_examples/{{grid}}.png", grid=noisy)
    return paths
