# The only Python of the workflow: the study, and what rules take from its jobs.
import sys
from importlib.util import find_spec
from pathlib import Path

# The folder of this Snakefile; workflow.basedir is the importer's when this runs as a module.
BASE = Path(workflow.snakefile).resolve().parents[2]
sys.path.insert(0, str(BASE / "src"))
origin = getattr(find_spec("blindspots"), "origin", None)
if origin is None or not Path(origin).resolve().is_relative_to(BASE):
    raise WorkflowError(
        "a workflow imports blindspots from one checkout on this machine: "
        "give each `snakefile:` the path of the same one"
    )

from blindspots.artifacts import prepare_folder
from blindspots.errors import UserError
from blindspots.steps.plan import attacks_in_parts
from blindspots.study.check import check, in_a_line
from blindspots.study.kinds import KINDS
from blindspots.study.rules import Rules, needs
from blindspots.study.snakefile import open_study, results_folder, shell_prefix
from blindspots.study.terminal import attend, guard_report

try:
    study = open_study(workflow, config, BASE)
except UserError as error:
    raise WorkflowError(str(error))
# What the report's captions read. A copy, for importers may use their configuration twice.
config = {**config, "captions": study.captions()}


pathvars:
    study=f"<results>/{study.name}",


try:
    FOLDER = results_folder(workflow)
except UserError as error:
    raise WorkflowError(str(error))
_rules = Rules(workflow, study, FOLDER)
inputs, outputs, shown, job, gpus = (
    getattr(_rules, name) for name in ("inputs", "outputs", "shown", "job", "gpus")
)
ENVIRONMENT = str(BASE / "envs/blindspots.yaml")
shell.prefix(shell_prefix(workflow, BASE))
if workflow.is_main_process:  # cluster jobs read this file, too
    guard_report(logger, study, FOLDER)
    if workflow.modifier.is_main_snakefile():  # what an importer shows is its own affair
        attend(logger, study, FOLDER, workflow.output_settings)


onstart:
    try:
        prepare_folder(FOLDER)
    except UserError as error:
        raise WorkflowError(str(error))


onsuccess:
    logger.info(in_a_line(study, check(study, FOLDER, tensors=False)))


wildcard_constraints:
    **dict.fromkeys(("seed", "part"), "[0-9]+"),
    **dict.fromkeys(
        ("model", "attack", "pool", "experiment", "table", "grid"),
        "[A-Za-z][A-Za-z0-9_-]*",
    ),


def in_parts(several):
    """Return the pattern of the attacks whose sets several jobs make, or one job."""
    return "|".join(attacks_in_parts(study, several)) or "(?!)"  # which matches nothing
