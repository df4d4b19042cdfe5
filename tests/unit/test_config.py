"""Mistakes in a configuration, and the agreement of schema, configuration and code."""

import inspect
from copy import deepcopy

import pytest
import yaml
from snakemake.utils import update_config

from blindspots.attacks.engines import ENGINES
from blindspots.attacks.methods import METHODS
from blindspots.attacks.targets import RULES
from blindspots.data.catalogue import BASES, CATALOGUE
from blindspots.errors import UserError
from blindspots.models.networks import ACTIVATIONS, BUILDERS
from blindspots.study.config import ARCHITECTURE_KEYS, nearest, validated
from blindspots.study.plan import OPTIMIZER_KEYS

GONE = object()


@pytest.fixture
def files(reference):
    return [path.name for path in reference.glob("*.csv")]


def edited(config, path, value):
    """Return a copy of a configuration with the value at a dotted path set or taken away."""
    config = deepcopy(config)
    *folders, last = path.split(".")
    place = config
    for key in folders:
        place = place.setdefault(key, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return config


def problems_of(config, schema, files):
    """Return the lines of the error that a configuration raises, without the first."""
    with pytest.raises(UserError) as caught:
        validated(config, schema, files)
    return str(caught.value).splitlines()[1:]


# What is right -----------------------------------------------------------------------------------


def studies():
    from pathlib import Path

    return sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", [None, *studies()], ids=lambda study: study and study.stem)
def test_studies_have_no_mistake(config, schema, files, study):
    """config.yaml alone, and with each overlay merged as Snakemake merges it."""
    if study:
        update_config(config, yaml.safe_load(study.read_text(encoding="utf-8")))
    found = validated(config, schema, files)
    assert study is None or found["study"] == study.stem


def test_defaults_are_filled_in(schema):
    """In a smallest configuration, at every depth, without touching what was given."""
    config = {
        "study": "small",
        "dataset": "digits",
        "models": {"A": {"architecture": "softmax", "split": "train"}},
        "attacks": {"a": {"method": "lbfgs", "targets": "random", "images": "test"}},
        "experiments": {"e": {"attack": "a", "sources": ["A"]}},
    }
    given = deepcopy(config)
    found = validated(config, schema, [])
    assert config == given
    assert found["seeds"] == [0] and found["device"] == "auto"
    assert found["training"]["optimizer"] == "lbfgs"
    assert found["models"]["A"]["weight_decay"] == 0 and found["models"]["A"]["training"] == {}
    assert found["attacks"]["a"]["options"] == {}
    assert found["experiments"]["e"]["clean"] == found["experiments"]["e"]["noise"] == []
    assert found["tables"] == {} and found["figures"]["examples"] == {}
    assert found["splits"]["parts"] == {} and found["threads"]["attack"] == 1


def test_given_values_win_over_defaults(config, schema, files):
    config = edited(config, "models.AE400-10.pretraining.max_evaluations", 7)
    config = edited(config, "models.softmax1.training", {"max_evaluations": 9})
    found = validated(config, schema, files)["models"]
    assert found["AE400-10"]["pretraining"]["max_evaluations"] == 7
    defaults = entry(schema, "models")["pretraining"]["properties"]
    assert found["AE400-10"]["pretraining"]["history"] == defaults["history"]["default"]
    assert found["softmax1"]["training"] == {"max_evaluations": 9}


def test_null_takes_an_entry_away(config, schema, files):
    """As an overlay does, which cannot delete keys otherwise."""
    config = edited(config, "tables.table1", None)
    config = edited(config, "experiments.cross_model.noise", None)
    config = edited(config, "tables.table2.noise", None)
    found = validated(config, schema, files)
    assert "table1" not in found["tables"]
    assert found["experiments"]["cross_model"]["noise"] == []


def test_user_architecture_is_accepted(config, schema, files):
    model = {"architecture": "own.networks:build", "options": {"width": 3}, "split": "train"}
    assert validated(edited(config, "models.own", model), schema, files)


# Mistakes ----------------------------------------------------------------------------------------

CONV = {"architecture": "conv", "channels": [2], "units": 4, "split": "train"}
WRONG_TARGETS = {"method": "lbfgs", "images": "test", "targets": "given"}
MISTAKES = {
    # names
    "model in sources": (
        "experiments.cross_model.sources",
        ["softmaks1"],
        "experiments.cross_model.sources: there is no model 'softmaks1' (did you mean softmax1?)",
    ),
    "model in victims": ("experiments.cross_model.victims", ["M9"], "there is no model 'M9'"),
    "split of a model": (
        "models.M1.split",
        "P3",
        "models.M1.split: there is no split 'P3' (did you mean P",
    ),
    "split of an attack": ("attacks.test-random.images", "tset", "(did you mean test?)"),
    "clean split": ("experiments.cross_model.clean", ["trian"], "(did you mean train?)"),
    "disjoint split": ("splits.disjoint", [["P1", "P9"]], "splits.disjoint[0]: there is no split"),
    "attack": (
        "experiments.cross_model.attack",
        "train-randm",
        "there is no attack 'train-randm' (did you mean train-random?)",
    ),
    "experiment of a table": (
        "tables.table1.experiment",
        "cross_mode",
        "(did you mean cross_model?)",
    ),
    "printed numbers": ("tables.table1.printed", "table1.csv", "workflow/reference 'table1.csv'"),
    "grid's source": ("figures.examples.figure7a.source", "sofmax1", "(did you mean softmax1?)"),
    "grid's attack": ("figures.examples.figure7a.attack", "train", "there is no attack 'train'"),
    "grid's images": ("figures.examples.figure7c.images", "P3", "there is no split 'P3'"),
    # keys
    "key at the top": ("sedes", [0], "sedes is not a known key (did you mean seeds?)"),
    "key of a model": ("models.M1.width", [3], "models.M1.width is not a known key (did you mean"),
    "key of training": ("training.learnin_rate", 0.1, "(did you mean learning_rate?)"),
    "option of an attack": (
        "attacks.test-random.options",
        {"evaluation": 3},
        "attacks.test-random.options.evaluation is not a known key (did you mean evaluations?)",
    ),
    "option of another method": (
        "attacks.test-random.options",
        {"steps": 3},
        "attacks.test-random.options.steps is not a known key (did you mean",
    ),
    "option out of range": (
        "attacks.test-random",
        {"method": "ddn", "targets": "random", "images": "test", "options": {"gamma": 1.5}},
        "attacks.test-random.options.gamma must be below 1, not 1.5",
    ),
    "no members": (
        "attacks.test-random",
        {"method": "best_of", "targets": "random", "images": "test", "options": {"members": []}},
        "attacks.test-random.options.members is empty",
    ),
    "method of a member": (
        "attacks.test-random",
        {
            "method": "best_of",
            "targets": "random",
            "images": "test",
            "options": {"members": [{"method": "best_of"}]},
        },
        "attacks.test-random.options.members[0].method is 'best_of'; known: lbfgs, ddn",
    ),
    "option of a member": (
        "attacks.test-random",
        {
            "method": "best_of",
            "targets": "random",
            "images": "test",
            "options": {"members": [{"method": "ddn", "options": {"step": 3}}]},
        },
        "attacks.test-random.options.members[0].options.step is not a known key (did you mean",
    ),
    "missing key": ("models.M1.split", GONE, "models.M1.split is missing"),
    "missing section": ("attacks", GONE, "attacks is missing"),
    # values
    "data set": ("dataset", "minst", "dataset is 'minst'; known: digits, mnist"),
    "nearest data set": ("dataset", "minst", "(did you mean mnist?)"),
    "device": ("device", "gpu", "device is 'gpu'; known: auto, cpu, cuda"),
    "optimizer": ("training.optimizer", "lbgfs", "(did you mean lbfgs?)"),
    "architecture": ("models.M1.architecture", "mpl", "(did you mean mlp?)"),
    "targets": ("attacks.test-random.targets", "randm", "(did you mean random?)"),
    "method": ("attacks.test-random.method", "lbfsg", "(did you mean lbfgs?)"),
    "table kind": ("tables.table1.kind", "model", "(did you mean models?)"),
    "empty sources": ("experiments.cross_model.sources", [], "sources is empty"),
    "empty seeds": ("seeds", [], "seeds is empty"),
    "no model": ("models", {}, "models is empty"),
    "empty widths": ("models.M1.widths", [], "models.M1.widths is empty"),
    "same source twice": ("experiments.cross_model.sources", ["M1", "M1"], "names something twice"),
    "same seed twice": ("seeds", [0, 1, 0], "seeds names something twice"),
    "same level twice": ("experiments.cross_model.amplify", [0.1, 0.1], "names something twice"),
    "negative decay": ("models.M1.weight_decay", -1.0, "weight_decay must be at least 0, not -1"),
    "negative decay in a list": (
        "models.M1.weight_decay",
        [1.0e-5, -1.0e-5, 1.0e-6],
        "models.M1.weight_decay[1] must be at least 0",
    ),
    "number as text": (
        "models.M1.weight_decay",
        "1e-3",
        "weight_decay must be a number, not the text '1e-3'; YAML reads 1e-3 as text, write 1.0e-3",
    ),
    "number as text in a list": (
        "models.M1.weight_decay",
        ["1e-5", 1.0e-5, 1.0e-6],
        "models.M1.weight_decay[0] must be a number, not the text '1e-5'",
    ),
    "large number as text": ("training.learning_rate", "1e2", "write 1.0e+2"),
    "learning rate of zero": ("training.learning_rate", 0, "learning_rate must be above 0"),
    "momentum of one": ("training.momentum", 1, "momentum must be below 1"),
    "level above the limit": ("experiments.cross_model.noise", [11], "must be at most 10"),
    "level of zero": ("experiments.cross_model.amplify", [0], "amplify[0] must be above 0"),
    "share above one": ("splits.parts.P1.share", [0, 2], "share[1] must be at most 1"),
    "three edges": ("splits.parts.P1.share", [0, 0.2, 0.5], "share takes at most 2 entries"),
    "one edge": ("splits.parts.P1.share", [0.5], "share needs at least 2 entries, not 1"),
    "fractional seed": ("seeds", [0.5], "seeds[0] must be a whole number, not 0.5"),
    "list for text": ("study", ["a"], "study must be text, not ['a']"),
    "text for a list": (
        "experiments.cross_model.sources",
        "M1",
        "sources must be a list, not 'M1'",
    ),
    "text for a mapping": ("models", "M1", "models must be a mapping"),
    "text for true": ("download", "yes", "download must be true or false, not 'yes'"),
    "true for a number": ("chunk", True, "chunk must be a whole number, not True"),
    # names that stand in paths
    "study with a slash": ("study", "a/b", "study: 'a/b' may hold only letters, digits"),
    "study that climbs": ("study", "..", "study: '..' may hold only"),
    "study that starts with a digit": ("study", "7", "must start with a letter"),
    "study with a line feed": ("study", "mnist\n", "study: 'mnist\\n' may hold only"),
    "model with a slash": ("models.a/b", CONV, "'a/b' may hold only"),
    "attack with a space": (
        "attacks.a b",
        {**WRONG_TARGETS, "targets": "random"},
        "'a b' may hold",
    ),
    "factory with a slash": ("models.M1.architecture", "a/b:c", "models.M1.architecture"),
    # between keys
    "overlapping parts": (
        "splits.parts.P2.share",
        [0.4, 1.0],
        "splits.disjoint[0]: P1 and P2 share 6000 images of train",
    ),
    "part and its base": ("splits.disjoint", [["P1", "train"]], "P1 and train share 30000 images"),
    "share and range": (
        "splits.parts.P1",
        {"of": "train", "share": [0, 0.5], "range": [0, 5]},
        "splits.parts.P1 needs either share or range",
    ),
    "neither share nor range": ("splits.parts.P1", {"of": "train"}, "needs either share or range"),
    "range too long": (
        "splits.parts.P1",
        {"of": "train", "range": [0, 60001]},
        "splits.parts.P1: it must start before it ends, within the 60000 images of train",
    ),
    "reversed share": ("splits.parts.P1.share", [0.5, 0.1], "must start before it ends"),
    "part named as a base set": (
        "splits.parts.test",
        {"of": "train", "share": [0, 0.5]},
        "splits.parts.test: the name of a base set is taken",
    ),
    "reserved name": ("models.noise", CONV, "models.noise: the name is taken"),
    "decay list too short": (
        "models.M1.weight_decay",
        [1.0e-5, 1.0e-5],
        "models.M1.weight_decay lists 2 numbers for 3 trained layers",
    ),
    "decay list too long": (
        "models.softmax1.weight_decay",
        [1.0e-5, 1.0e-5],
        "lists 2 numbers for 1 trained layers",
    ),
    "decay list of a conv": (
        "models.conv.weight_decay",
        [0.1, 0.1],
        "lists 2 numbers for 4 trained layers",
    ),
    "key of another architecture": (
        "models.softmax1.widths",
        [10],
        "models.softmax1.widths does not go with architecture softmax",
    ),
    "mlp without widths": (
        "models.M1.widths",
        GONE,
        "models.M1.widths is missing: architecture mlp",
    ),
    "autoencoder without units": (
        "models.AE400-10.units",
        GONE,
        "models.AE400-10.units is missing",
    ),
    "same label twice": ("models.M2.label", "M1", "models.M2.label: 'M1' is the label of M1 too"),
    "given without a list": ("attacks.mine", WRONG_TARGETS, "attacks.mine: targets given and"),
    "list without given": (
        "attacks.test-random.given",
        [1] * 10,
        "targets given and the list given",
    ),
    "given too short": (
        "attacks.mine",
        {**WRONG_TARGETS, "given": [1, 0]},
        "attacks.mine.given must name another class for each of the 10 classes",
    ),
    "given own class": (
        "attacks.mine",
        {**WRONG_TARGETS, "given": list(range(10))},
        "another class",
    ),
    "given out of range": ("attacks.mine", {**WRONG_TARGETS, "given": [10] * 10}, "another class"),
    "level that is not evaluated": (
        "tables.table4.amplify",
        [0.07],
        "tables.table4.amplify: level 0.07 is not among those of experiment cross_training_set",
    ),
    "grid without its set": (
        "figures.examples.figure7a.source",
        "M1",
        "figures.examples.figure7a: no experiment attacks M1 with train-random",
    ),
    "grid of both kinds": (
        "figures.examples.figure7a.noise",
        1.0,
        "needs either attack and source",
    ),
}


@pytest.mark.parametrize(("path", "value", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_told_in_a_sentence(config, schema, files, path, value, sentence):
    """That says where it is, what is wrong, and the nearest known name."""
    lines = problems_of(edited(config, path, value), schema, files)
    assert any(sentence in line for line in lines)


def test_images_that_cannot_be_halved_so_often(config, schema, files):
    config = edited(config, "dataset", "digits")
    config = edited(config, "models.conv.channels", [4, 4, 4])
    assert validated(config, schema, files)
    config = edited(config, "models.conv.channels", [4, 4, 4, 4])
    assert any("models.conv.channels" in line for line in problems_of(config, schema, files))


def test_every_mistake_is_told_at_once(config, schema, files):
    """Each once, with their number."""
    config = edited(config, "models.M1.split", "P3")
    config = edited(config, "experiments.cross_model.attack", "none")
    config = edited(config, "models.M2.label", "M1")
    with pytest.raises(UserError) as caught:
        validated(config, schema, files)
    first, *lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines)) and f"{len(lines)} mistakes" in first
    for text in ("'P3'", "'none'", "models.M2.label"):
        assert any(text in line for line in lines)


def test_two_missing_keys_are_told_once_each(config, schema, files):
    config = edited(config, "attacks.mine", {"images": "test"})
    lines = problems_of(config, schema, files)
    assert len(lines) == len(set(lines)) == 2


def test_one_mistake_is_one_line(config, schema, files):
    for path, value in (("device", "gpu"), ("models.M1.weight_decay", "1e-3"), ("study", "a/b")):
        with pytest.raises(UserError, match="a mistake") as caught:
            validated(edited(config, path, value), schema, files)
        assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "known", "wanted"),
    [
        ("lbfsg", ["lbfgs", "adam"], " (did you mean lbfgs?)"),
        ("zzz", ["lbfgs", "adam"], ""),
        (7, ["70", "x"], " (did you mean 70?)"),
        ("a", [], ""),
    ],
)
def test_nearest_name(name, known, wanted):
    assert nearest(name, known) == wanted


# Agreement of schema and code --------------------------------------------------------------------


def described(schema, root, place="configuration"):
    """Yield (place, whether it has a description) for every property at every depth."""
    target = {}
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
    inherited = target.get("properties", {})
    for name, rule in schema.get("properties", {}).items():
        own = {**inherited.get(name, {}), **rule}
        reference = own.get("$ref", "#/$defs/").removeprefix("#/$defs/")
        text = own.get("description") or root["$defs"].get(reference, {}).get("description")
        yield f"{place}.{name}", bool(text)
        yield from described(own, root, f"{place}.{name}")
    for key in ("additionalProperties", "items"):
        if isinstance(schema.get(key), dict):
            yield from described(schema[key], root, f"{place}.*")
    if target:
        yield from described(target, root, place)


def test_every_key_has_a_description(schema):
    found = dict(described(schema, schema))
    assert len(found) > 60
    assert [place for place, has_text in found.items() if not has_text] == []


def test_every_mapping_refuses_unknown_keys(schema):
    """So that no mistyped key passes in silence; the options of a user's factory are free."""
    todo, free = [("configuration", schema)], []
    while todo:
        place, rule = todo.pop()
        if not isinstance(rule, dict):
            continue
        if rule.get("type") == "object" and "additionalProperties" not in rule:
            free.append(place)
        todo += [(f"{place}.{key}", value) for key, value in rule.items()]
    assert [place for place in free if not place.endswith(".options")] == []


def test_defaults_obey_their_own_schema(schema):
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema)
    todo = [schema]
    while todo:
        rule = todo.pop()
        if isinstance(rule, dict):
            if "default" in rule and not isinstance(rule["default"], dict):
                whole = {**rule, "$defs": schema["$defs"]}
                Draft202012Validator(whole).validate(rule["default"])
            todo += rule.values()


def entry(schema, section):
    """Return the properties of the entries of one section of the configuration."""
    return schema["properties"][section]["additionalProperties"]["properties"]


@pytest.mark.parametrize("name", METHODS)
def test_options_of_attacks_are_those_of_the_method(schema, name):
    keywords = {
        key
        for key, parameter in inspect.signature(METHODS[name]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    options = schema["$defs"]["options"][name]["properties"]
    assert set(options) == keywords - {"targets", "chunk"}


def test_enumerations_are_the_registries(schema):
    model, attack = entry(schema, "models"), entry(schema, "attacks")
    assert set(schema["properties"]["dataset"]["enum"]) == set(CATALOGUE)
    assert set(schema["$defs"]["method"]["anyOf"][0]["enum"]) == set(METHODS)
    assert set(schema["$defs"]["options"]) == set(METHODS)
    member = schema["$defs"]["options"]["best_of"]["properties"]["members"]["items"]
    assert set(member["properties"]["method"]["anyOf"][0]["enum"]) == set(ENGINES)
    assert set(attack["targets"]["enum"]) == set(RULES)
    assert set(model["activation"]["enum"]) == set(ACTIVATIONS)
    assert set(model["architecture"]["anyOf"][0]["enum"]) == set(BUILDERS)
    assert set(BUILDERS) == set(ARCHITECTURE_KEYS)
    parts = schema["properties"]["splits"]["properties"]["parts"]["additionalProperties"]
    assert set(parts["properties"]["of"]["enum"]) == set(BASES)


def test_settings_of_training_are_those_of_the_optimizers(schema):
    training = schema["$defs"]["training"]["properties"]
    assert set(training["optimizer"]["enum"]) == set(OPTIMIZER_KEYS)
    used = {key for keys in OPTIMIZER_KEYS.values() for key in keys}
    assert set(training) == used | {"optimizer", "weight_decay_convention"}
    assert set(schema["properties"]["training"]["properties"]) == set(training)


def test_given_conventions_and_defaults_of_the_code_agree(schema):
    """Every setting of training has a default, so that a specification is complete."""
    rules = schema["properties"]["training"]["properties"]
    assert all("default" in rule for rule in rules.values())
