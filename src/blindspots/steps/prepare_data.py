"""Store a data set as one artifact: the step of every source."""

from blindspots.artifacts import write_tensors
from blindspots.steps.job import run


def prepare(load, options=""):
    """Run the step.

    Parameters
    ----------
    load : callable
        ``load(job)`` returns a `blindspots.data.facts.Dataset`.
    options : str
        Names of what it is told besides, as for `blindspots.steps.job.run`.
    """

    def main(job, files):
        data = load(job)
        tensors = {f"{base}_images": images for base, images in data.images.items()}
        tensors |= {f"{base}_labels": labels for base, labels in data.labels.items()}
        facts = {
            "maximum": data.facts.maximum,
            "classes": data.facts.classes,
            "shape": list(data.facts.shape),
        }
        if data.facts.names:
            facts["names"] = data.facts.names
        write_tensors(files.data, tensors, job.provenance(facts=facts))

    run(main, reads="", writes="data", options=options)
