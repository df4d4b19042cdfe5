"""Classifiers of scikit-learn that are fitted on a split; linear ones become networks."""

import logging

from blindspots.models.classifiers import KNOWN, LINEAR, WITHOUT_DRAWS, is_users, nearest

KEY = "estimator"
MODULE = "blindspots.models.makers.estimator"
SCHEMA = {
    "description": "A classifier of scikit-learn",
    "type": "object",
    "required": ["estimator", "split"],
    "properties": {
        "estimator": {
            "description": "package.module:Class of scikit-learn, or module:function on the Python "
            "path that returns one of its classifiers",
            "$ref": "#/$defs/reference",
        },
        "options": {
            "description": "Keyword arguments of the class or function",
            "type": "object",
            "default": {},
        },
        "split": {"description": "Split that it is fitted on", "$ref": "#/$defs/id"},
    },
}
ASKED = 1000  # images that it is asked about together once it is fitted
ROUNDED = 1e-3  # share of answers that may change where linear scores are rounded to float32
LOG = logging.getLogger(__name__)


def takes(entry, facts):
    """Return the shape of the images that a model takes, and the number of its classes."""
    return facts.shape, facts.classes


def seeded(entry):
    """Tell whether a model is made anew for every seed: if its answers depend on draws."""
    return entry[KEY] not in WITHOUT_DRAWS and "random_state" not in entry["options"]


def differentiable(entry):
    """Tell whether a model has layers and gradients: if it is known to be linear."""
    return entry[KEY] in LINEAR


def problems(where, entry, config, facts):
    """Yield what is wrong with an entry, in sentences."""
    reference = entry[KEY]
    if is_users(reference):
        return
    if reference not in KNOWN:
        near = nearest(reference)
        hint = f" (did you mean {near[0]}?)" if near else ""
        yield (
            f"{where}.estimator: {reference!r} is none of the classifiers that are taken by name"
            f"{hint}; of all else a function of your own, module:function, may return it"
        )
    if "n_jobs" in entry["options"]:
        yield f"{where}.options.n_jobs: threads.train says how many threads it gets; take it out"


def inputs(study, entry, seed):
    """Return the jobs that a model builds on."""
    return {"data": study.job("prepare_data")}


def settings(study, entry, seed):
    """Return what else determines the bytes of a model."""
    packages = ("scikit-learn", "scipy", *(() if differentiable(entry) else ("skops",)))
    compute = study.compute("train", packages)
    return {
        "maker": KEY,
        "estimator": entry[KEY],
        "options": entry["options"],
        "split": study.split(entry["split"]),
        "seed": seed if seeded(entry) else 0,
        **{key: compute[key] for key in ("threads", "versions")},  # the CPU in any case
    }


def options(study, entry):
    """Return what the step is told besides: nothing."""
    return {}


def references(entry):
    """Return the user's module that makes the classifier, if one does."""
    return (entry[KEY],) if is_users(entry[KEY]) else ()


def main(job, files):
    """Fit the classifier, and save it: as a network if it is linear, else by skops."""
    from blindspots.device import configure_torch
    from blindspots.errors import UserError
    from blindspots.models.estimator_bytes import pack, unpack
    from blindspots.models.estimators import SOFTMAX, facts_of, fit, make, softmax_of
    from blindspots.models.inference import answers_of, logits_of
    from blindspots.models.predictions import Predictions, rows_of
    from blindspots.steps.loading import load_images
    from blindspots.steps.weights import ESTIMATOR, save_estimator, save_network

    spec, reference = job.spec, job.spec["estimator"]
    device = configure_torch("cpu", job.threads)
    images, labels, _, facts = load_images(files.data, job.upstream("data"), spec["split"], device)
    shape, classes, rows = tuple(facts["shape"]), facts["classes"], rows_of(images)
    estimator = make(reference, spec["options"], spec["seed"])
    warned = fit(reference, estimator, rows, labels.numpy(), spec["seed"], job.threads)
    for warning in warned:
        LOG.warning("%s", warning)
    try:
        if reference in LINEAR:
            described, model = SOFTMAX, softmax_of(estimator, shape, classes)
        else:
            content = pack(estimator)
            described, model = {"kind": ESTIMATOR}, Predictions(unpack(content), classes)
    except ValueError as error:
        raise UserError(f"{reference} was fitted and cannot be kept: {error}") from error
    # Of what is kept, so that what cannot be asked later is told now.
    answers = answers_of(logits_of(model, images, ASKED, name=reference))
    unlike = int((answers[:ASKED].numpy() != estimator.predict(rows[:ASKED])).sum())
    if unlike > ROUNDED * min(len(rows), ASKED):
        raise UserError(
            f"{reference} was fitted and cannot be kept: in single precision it answers {unlike} "
            f"of {min(len(rows), ASKED)} images otherwise; regularise it more or take another"
        )
    record = {
        **facts_of(estimator),
        "error": (answers != labels).double().mean().item(),
        "unlike": unlike,
        "warnings": warned,
    }
    LOG.info("error on the images that it was fitted on: %.4f", record["error"])
    about = {"architecture": described, "shape": list(shape), "classes": classes}
    provenance = job.provenance(network=about, training=record, device=device.type)
    if reference in LINEAR:
        save_network(files.model, model, provenance)
    else:
        save_estimator(files.model, content, provenance)


if __name__ == "__main__":
    from blindspots.steps.job import run

    run(main, reads="data", writes="model")
