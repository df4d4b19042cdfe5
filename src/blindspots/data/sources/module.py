"""What a user's own function returns: ``dataset: my_data:load``, or with ``module`` and options."""

from dataclasses import replace

from blindspots.data import user_function

KEY = "module"
PACKAGES = ("numpy",)
SCHEMA = {
    "module": {
        "description": "A function of your own, module:name, that returns train_images, "
        "train_labels, test_images, test_labels and, if there are any, classes, as in an archive",
        "$ref": "#/$defs/reference",
    },
    "options": {"description": "Its keyword arguments", "type": "object", "default": {}},
}


def facts(config, root):
    """Return the facts of what the function returns, which is called unless they are known."""
    said = {key: config["dataset"][key] for key in SCHEMA}
    found = user_function.planned(said["module"], said["options"])
    return replace(found, content={**said, "arrays": found.content})


def options(config, root):
    """Return what the step is told besides: nothing."""
    return {}


def references(config):
    """Return the function."""
    return (config["dataset"][KEY],)


def load(job):
    """Call the function, which must return what it did when the job was planned."""
    content = job.spec["content"]
    return user_function.load(content["module"], content["options"], content["arrays"])


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load)
