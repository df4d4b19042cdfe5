"""Check every engine of a study against the closed form on a linear softmax."""

import logging

import pandas as pd

from blindspots.artifacts import canonical_json, write_sidecar, write_text
from blindspots.attacks.external import AttackError
from blindspots.attacks.methods import method
from blindspots.attacks.selfcheck import EXACT, FAILED, NOT_CERTIFIED, check
from blindspots.device import configure_torch
from blindspots.steps.job import run

LOG = logging.getLogger(__name__)


def main(job, options):
    device = configure_torch(job.spec["device"], job.threads)
    lines = []
    for name, settings in job.spec["engines"]:
        engine = {"method": name, "options": canonical_json(settings) if settings else ""}
        try:
            found = check(method(name), settings, device)
        except (AttackError, ValueError) as error:
            found = [{"verdict": f"{FAILED}: {error}"}]
        lines += [{**engine, **line} for line in found]
    table = pd.DataFrame(lines)
    for line in table.to_dict("records"):
        if line["verdict"] not in (EXACT, NOT_CERTIFIED):
            LOG.warning("%s %s: %s", line["method"], line["options"], line["verdict"])
    write_text(options.csv, table.to_csv(index=False, float_format="%.4g"))
    write_sidecar([options.csv], job.provenance(device=device.type))


if __name__ == "__main__":
    run(main, {"csv": "CSV to write"})
