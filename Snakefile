# Which small changes fool a network, and which other networks do they fool?
# Szegedy et al. 2013, "Intriguing properties of neural networks", section 4.2.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/step.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/attacks.smk"


for kind in KINDS:

    include: f"src/blindspots/experiments/{kind}/rules.smk"


report: "workflow/report/workflow.rst"


rule all:
    """Make every artifact of the study, not only what is published."""
    default_target: True
    input:
        [f"<study>/{path}" for job in study.jobs for path in job.paths],
