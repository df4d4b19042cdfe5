"""What keeps a model from being asked about the images of a study, or from being attacked."""

from blindspots.models.makers.registry import maker_of
from blindspots.study.sentences import unknown


def attackable(where, names, config, facts):
    """Yield what keeps models that an experiment names from being attacked."""
    models = config["models"]
    for name in names:
        yield from unknown(where, "model", name, models)
        if name in models:
            yield from other_images(where, name, models[name], facts)
            yield from no_gradient(where, name, models[name])


def other_images(where, name, entry, facts):
    """Yield a sentence if a model takes other images than those of the data set."""
    shape, classes = maker_of(entry).takes(entry, facts)
    if (shape, classes) != (facts.shape, facts.classes):
        yield (
            f"{where}: {name} takes images of shape {shape} and {classes} classes; those of "
            f"{facts.title} have {facts.shape} and {facts.classes}; take it out of this experiment"
        )


def no_gradient(where, name, entry):
    """Yield a sentence if a model gives attacks nothing to follow."""
    if not maker_of(entry).differentiable(entry):
        yield (
            f"{where}: {name} has no gradient with respect to its images, so it cannot be "
            "attacked; name it under victims alone"
        )
