"""Right configurations, and the agreement of schema and code; wrong ones: test_bad_input.py."""

import inspect
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from blindspots.attacks.engines import ENGINES
from blindspots.attacks.methods import METHODS
from blindspots.attacks.targets import RULES
from blindspots.data.catalogue import CATALOGUE
from blindspots.data.facts import BASES
from blindspots.models.makers.trained import ARCHITECTURE_KEYS, OPTIMIZER_KEYS
from blindspots.models.networks import ACTIVATIONS, BUILDERS
from blindspots.study.config import _composed, validated
from blindspots.study.files import data_root
from blindspots.study.sentences import nearest
from blindspots.study.study import columns_of_files


@pytest.fixture
def files(reference):
    return columns_of_files(reference)


# What is right -----------------------------------------------------------------------------------


def studies():
    return sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", [None, *studies()], ids=lambda study: study and study.stem)
def test_studies_have_no_mistake(config, schema, files, study):
    """config.yaml alone, and with each overlay merged as Snakemake merges it."""
    if study:
        update_config(config, yaml.safe_load(study.read_text(encoding="utf-8")))
    dataset = config["dataset"]
    file = next(iter(dataset.values())) if isinstance(dataset, dict) else None
    if file and not Path(data_root(config), file).exists():
        pytest.skip(f"no {file} below BLINDSPOTS_DATA")
    found, _ = validated(config, schema, files)
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
    found, _ = validated(config, schema, {})
    assert config == given
    assert found["seeds"] == [0] and found["device"] == "auto"
    assert found["training"]["optimizer"] == "lbfgs"
    assert found["models"]["A"]["weight_decay"] == 0 and found["models"]["A"]["training"] == {}
    assert found["attacks"]["a"]["options"] == {}
    assert found["experiments"]["e"]["clean"] == found["experiments"]["e"]["noise"] == []
    assert found["tables"] == {} and found["figures"]["examples"] == {}
    assert found["splits"]["parts"] == {} and found["threads"]["attack"] == 1


def test_given_values_win_over_defaults(config, schema, complete, files):
    config["models"]["AE400-10"]["pretraining"]["max_evaluations"] = 7
    config["models"]["softmax1"]["training"] = {"max_evaluations": 9}
    found = validated(config, schema, files)[0]["models"]
    assert found["AE400-10"]["pretraining"]["max_evaluations"] == 7
    defaults = entry(complete, "models")["pretraining"]["properties"]
    assert found["AE400-10"]["pretraining"]["history"] == defaults["history"]["default"]
    assert found["softmax1"]["training"] == {"max_evaluations": 9}


def test_null_takes_an_entry_away(config, schema, files):
    """As an overlay does, which cannot delete keys otherwise."""
    config["tables"]["table1"] = None
    config["experiments"]["cross_model"]["noise"] = None
    config["tables"]["table2"]["noise"] = None
    found, _ = validated(config, schema, files)
    assert "table1" not in found["tables"]
    assert found["experiments"]["cross_model"]["noise"] == []


def test_user_architecture_is_accepted(config, schema, files):
    model = {"architecture": "own.networks:build", "options": {"width": 3}, "split": "train"}
    config["models"]["own"] = model
    assert validated(config, schema, files)


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


def test_every_key_has_a_description(complete):
    found = dict(described(complete, complete))
    assert len(found) > 60
    assert [place for place, has_text in found.items() if not has_text] == []


def test_every_mapping_refuses_unknown_keys(complete):
    """So that no mistyped key passes in silence; the options of a user's factory are free."""
    todo, free = [("configuration", complete)], []
    while todo:
        place, rule = todo.pop()
        if not isinstance(rule, dict):
            continue
        if rule.get("type") == "object" and "additionalProperties" not in rule:
            free.append(place)
        todo += [(f"{place}.{key}", value) for key, value in rule.items()]
    assert [place for place in free if not place.endswith(".options")] == []


def test_defaults_obey_their_own_schema(complete):
    from jsonschema import Draft202012Validator

    schema = complete
    Draft202012Validator.check_schema(schema)
    todo = [schema]
    while todo:
        rule = todo.pop()
        if isinstance(rule, dict):
            if "default" in rule and not isinstance(rule["default"], dict):
                whole = {**rule, "$defs": schema["$defs"]}
                Draft202012Validator(whole).validate(rule["default"])
            todo += rule.values()


@pytest.fixture
def complete(schema):
    """The schema with the fragments of makers, kinds and sources that are always there."""
    config = {
        "models": {"x": {"architecture": "softmax"}},
        "experiments": {"x": {"kind": "transfer"}},
    }
    found = _composed(schema, config)
    for section in config:
        rules = found["properties"][section]
        rules["additionalProperties"] = rules.pop("properties")["x"]
    return found


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


def test_enumerations_are_the_registries(complete):
    schema = complete
    model, attack = entry(schema, "models"), entry(schema, "attacks")
    assert set(schema["properties"]["dataset"]["enum"]) == {"digits", *CATALOGUE}
    assert set(schema["$defs"]["method"]["anyOf"][0]["enum"]) == set(METHODS)
    assert set(schema["$defs"]["options"]) == set(METHODS)
    member = schema["$defs"]["options"]["best_of"]["properties"]["members"]["items"]
    assert set(member["properties"]["method"]["anyOf"][0]["enum"]) == set(ENGINES)
    assert set(attack["targets"]["enum"]) == set(RULES)
    assert set(model["activation"]["enum"]) == set(ACTIVATIONS)
    assert set(schema["$defs"]["architecture"]["anyOf"][0]["enum"]) == set(ARCHITECTURE_KEYS)
    assert set(BUILDERS) - {"torchvision"} == set(ARCHITECTURE_KEYS)
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
