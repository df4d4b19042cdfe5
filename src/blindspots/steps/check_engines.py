"""Check every engine of a study against the closed form on a linear softmax."""

import io
import logging

import pandas as pd

from blindspots.artifacts import canonical_json, write_sidecar, write_text
from blindspots.attacks.external import AttackError
from blindspots.attacks.methods import method
from blindspots.attacks.selfcheck import EXACT, FAILED, NOT_CERTIFIED, check
from blindspots.device import configure_torch
from blindspots.escapes import printable
from blindspots.steps.job import run
from blindspots.summary.page import page

LOG = logging.getLogger(__name__)
NOTES = "Distances of each engine from the closed form, on a linear softmax."


def main(job, files):
    device = configure_torch(job.spec["device"], job.threads)
    lines = []
    for name, settings in job.spec["engines"]:
        engine = {"method": name, "options": canonical_json(settings) if settings else ""}
        try:
            found = check(method(name), settings, device)
        except (AttackError, ValueError) as error:
            found = [{"verdict": printable(f"{FAILED}: {error}")}]
        lines += [{**engine, **line} for line in found]
    table = pd.DataFrame(lines)
    for line in table.to_dict("records"):
        if line["verdict"] not in (EXACT, NOT_CERTIFIED):
            LOG.warning("%s %s: %s", line["method"], line["options"], line["verdict"])
    text = table.to_csv(index=False, float_format="%.4g")
    shown = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    write_text(files.csv, text)
    write_text(files.html, page([("engines", NOTES, shown.map(lambda cell: [cell]))]))
    write_sidecar([files.csv, files.html], job.provenance(device=device.type))


if __name__ == "__main__":
    run(main, reads="", writes="csv html provenance")
