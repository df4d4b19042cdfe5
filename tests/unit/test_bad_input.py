"""Bad input of every class: one clear sentence, and nothing written.

Configurations, the YAML files they come from, files of data sets, artifacts, modules of users, and
what a step leaves behind. Truncated files and flipped bits are in test_datasets.py and
test_artifacts.py; the whole path of a user, from the command line, is in
tests/workflow/test_mistakes.py.
"""

import datetime
import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from snakemake.cli import parse_config
from snakemake.utils import update_config

from blindspots import artifacts
from blindspots.data.catalogue import CATALOGUE, IDX_FILES, Entry
from blindspots.data.datasets import load_dataset
from blindspots.errors import UserError
from blindspots.experiments.transfer.checks import ROW_NAMES
from blindspots.experiments.transfer.tables import PRINTED
from blindspots.experiments.transfer.tabulate import read_printed
from blindspots.models.networks import build_network
from blindspots.steps import train_model
from blindspots.steps.job import Job
from blindspots.steps.loading import load_adversarial_set, load_images
from blindspots.steps.weights import load_network
from blindspots.study.checks import COLUMNS
from blindspots.study.config import validated
from blindspots.study.files import (
    data_root,
    refuse_odd_path,
    refuse_other_name,
    refuse_repeated_keys,
)
from blindspots.study.study import Study, columns_of_files
from blindspots.user_modules import fingerprint_user_module

GONE = object()
NAN, INF = float("nan"), float("inf")
ENDLESS = []
ENDLESS.append(ENDLESS)


def edited(config, path, value):
    """Return a copy of a configuration with the value at a path set or taken away.

    The path is dotted, or a tuple where a key is odd.
    """
    config = deepcopy(config)
    *folders, last = path.split(".") if isinstance(path, str) else path
    place = config
    for key in folders:
        place = place.setdefault(key, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return config


@pytest.fixture
def files(reference):
    return columns_of_files(reference)


@pytest.fixture
def lines_of(schema, reference, tmp_path, monkeypatch):
    """Return the function from a configuration to the lines of the error that it raises."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BLINDSPOTS_DATA", raising=False)

    def lines(config):
        with pytest.raises(UserError) as caught:
            Study(config, schema, reference, [str(tmp_path)])
        assert list(tmp_path.iterdir()) == []
        return str(caught.value).splitlines()

    return lines


# Configurations ----------------------------------------------------------------------------------

CONV = {"architecture": "conv", "channels": [2], "units": 4, "split": "train"}
WRONG_TARGETS = {"method": "lbfgs", "images": "test", "targets": "given"}
MISTAKES = {
    # unknown references
    "model in sources": (
        "experiments.cross_model.sources",
        ["softmax1", "N200-200-10", "softmaks1"],
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
        "experiments.cross_training_set.attack",
        "test-randm",
        "there is no attack 'test-randm' (did you mean test-random?)",
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
    # mistyped and missing keys
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
    "missing section": ("experiments", GONE, "experiments is missing"),
    "key that YAML reads as a number": (
        ("models", 7),
        CONV,
        "models: the key 7 is not text; put it in quotes",
    ),
    "key that YAML reads as true": (
        ("models", "M1", True),
        1,
        "models.M1: the key True is not text; put it in quotes",
    ),
    "empty key": (("models", "M1", ""), 1, "models.M1.'' is not a known key"),
    # wrong types, values out of bounds, nothing at all, duplicates
    "data set": ("dataset", "minst", "dataset is 'minst'; known: digits, mnist"),
    "nearest data set": ("dataset", "minst", "(did you mean mnist?)"),
    "device": ("device", "gpu", "device is 'gpu'; known: auto, cpu, cuda"),
    "optimizer": ("training.optimizer", "lbgfs", "(did you mean lbfgs?)"),
    "architecture": ("models.M1.architecture", "mpl", "(did you mean mlp?)"),
    "targets": ("attacks.test-random.targets", "randm", "(did you mean random?)"),
    "method": ("attacks.test-random.method", "lbfsg", "(did you mean lbfgs?)"),
    "table kind": ("tables.table1.kind", "model", "(did you mean models?)"),
    "NaN": (
        "models.M1.weight_decay",
        NAN,
        "models.M1.weight_decay must be a finite number, not nan",
    ),
    "NaN in a list": (
        "splits.parts.P1.share",
        [0, NAN],
        "splits.parts.P1.share[1] must be a finite number, not nan",
    ),
    "infinity": ("training.learning_rate", INF, "learning_rate must be a finite number, not inf"),
    "NaN in a user's options": (
        "models.own",
        {"architecture": "own:build", "split": "train", "options": {"a": {"b": [NAN]}}},
        "models.own.options.a.b[0] must be a finite number, not nan",
    ),
    "number too large for a float": (
        "models.M1.weight_decay",
        10**400,
        "must be a finite number, not 1000",
    ),
    "very many evaluations": (
        "training.max_evaluations",
        10**9,
        "training.max_evaluations must be at most 1000000, not 1000000000",
    ),
    "long history of an attack": (
        "attacks.test-random.options",
        {"pairs": 10**6},
        "attacks.test-random.options.pairs must be at most 100",
    ),
    "whole number with a point": ("seeds", [2.0], "seeds[0] must be a whole number, not 2.0"),
    "range with points": ("splits.parts.P1.range", [0.0, 5], "range[0] must be a whole number"),
    "true for a seed": ("seeds", [True], "seeds[0] must be a whole number, not True"),
    "true for a decay": ("models.M1.weight_decay", True, "weight_decay must be a number, not True"),
    "nothing for a seed": ("seeds", [None], "seeds[0] must be a whole number, not None"),
    "list that holds itself": ("seeds", ENDLESS, f"seeds{'[0]' * 30} is nested too deeply"),
    "date for text": (
        "study",
        datetime.date(2013, 12, 21),
        "study is read as the date 2013-12-21; put it in quotes if it is text",
    ),
    "long text for a number": ("chunk", "1" * 500, "chunk must be a number, not the text '1111"),
    "level with many digits": (
        "experiments.cross_model.amplify",
        [0.05, 0.1, 0.1000000001],
        "level 0.1000000001 has more than the six digits that names hold; round it",
    ),
    "negative level": ("experiments.cross_model.noise", [-0.1], "noise[0] must be above 0"),
    "negative seed": ("seeds", [-1], "seeds[0] must be at least 0, not -1"),
    "negative target": (
        "attacks.mine",
        {**WRONG_TARGETS, "given": [-1, *[0] * 9]},
        "attacks.mine.given[0] must be at least 0, not -1",
    ),
    "empty study": ("study", "", "study: '' may hold only letters"),
    "empty data root": ("data_root", "", "data_root is empty"),
    "empty label": ("models.M1.label", "", "models.M1.label is empty"),
    "empty group": ("splits.disjoint", [[]], "splits.disjoint[0] is empty; give at least 2"),
    "group of one": ("splits.disjoint", [["P1"]], "splits.disjoint[0] needs at least 2 entries"),
    "empty sources": ("experiments.cross_model.sources", [], "sources is empty"),
    "empty seeds": ("seeds", [], "seeds is empty"),
    "no model": ("models", {}, "models is empty"),
    "empty widths": ("models.M1.widths", [], "models.M1.widths is empty"),
    "same source twice": ("experiments.cross_model.sources", ["M1", "M1"], "names something twice"),
    "same seed twice": ("seeds", [0, 1, 0], "seeds names something twice"),
    "same split twice": ("splits.disjoint", [["P1", "P1"]], "disjoint[0] names something twice"),
    "same member twice": (
        "attacks.test-random",
        {
            "method": "best_of",
            "targets": "random",
            "images": "test",
            "options": {"members": [{"method": "ddn"}, {"method": "ddn"}]},
        },
        "attacks.test-random.options.members names something twice",
    ),
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
    # odd characters, and names that stand in paths
    "study above the results": ("study", "../x", "study: '../x' may hold only"),
    "study with a null byte": ("study", "a\0b", "study: 'a\\x00b' may hold only"),
    "model above the results": (("models", "../x"), CONV, "models: '../x' may hold only letters"),
    "part with a dot": (
        ("splits", "parts", "a.b"),
        {"of": "train", "share": [0, 0.1]},
        "splits.parts: 'a.b' may hold only letters",
    ),
    "table with a star": (
        ("tables", "a*"),
        {"kind": "models", "experiment": "cross_model"},
        "tables: 'a*' may hold only letters",
    ),
    "grid with braces": (
        ("figures", "examples", "{x}"),
        {"images": "test", "noise": 1.0},
        "figures.examples: '{x}' may hold only letters",
    ),
    "experiment with an accent": (
        "experiments.é",
        {"attack": "test-random", "sources": ["M1"]},
        "experiments: 'é' may hold only letters",
    ),
    "empty name": (("models", ""), CONV, "models: '' may hold only letters"),
    "very long name": (
        ("models", "a" * 65),
        CONV,
        f"models: '{'a' * 65}' is longer than 64 characters",
    ),
    "data root with a null byte": ("data_root", "a\0b", "data_root: 'a\\x00b' must be one line"),
    "label of spaces": ("models.M1.label", "  ", "models.M1.label: '  ' must hold more than"),
    "label too long": ("models.M1.label", "a" * 65, "is longer than 64 characters"),
    "title with an escape of terminals": (
        "experiments.cross_model.title",
        "a\x1b[2J",
        "experiments.cross_model.title: 'a\\x1b[2J' must be one line, without control",
    ),
    "caption that turns what follows": ("tables.table1.caption", "a\u202eb", "must be one line"),
    "description of half a character": ("models.M1.description", "\ud83d", "must be one line"),
    "label of two lines": ("models.M1.label", "a\nb", "models.M1.label: 'a\\nb' must be one line"),
    "caption of two lines": ("tables.table1.caption", "a\nb", "caption: 'a\\nb' must be one line"),
    "printed numbers elsewhere": (
        "tables.table1.printed",
        "../../secret.csv",
        "tables.table1.printed: '../../secret.csv' must be the name of a CSV file, without its",
    ),
    "method with two dots": (
        "attacks.test-random.method",
        "a..b:c",
        "attacks.test-random.method: 'a..b:c' does not have the form module:name",
    ),
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
    "factory with a slash": (
        "models.M1.architecture",
        "a/b:c",
        "models.M1.architecture: 'a/b:c' does not have the form module:name",
    ),
    "models that differ by case": (
        "models.m1",
        {**CONV, "label": "another"},
        "models: M1 and m1 differ only in upper and lower case, which some disks do not tell apart",
    ),
    "part that differs from a base by case": (
        "splits.parts.Train",
        {"of": "train", "share": [0, 0.1]},
        "splits.parts: train and Train differ only in upper and lower case",
    ),
    "tables that differ by case": (
        "tables.Table1",
        {"kind": "models", "experiment": "cross_model"},
        "tables: table1 and Table1 differ only in upper and lower case",
    ),
    # impossible combinations
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
    "range outside the data": (
        "splits.parts.P2",
        {"of": "test", "range": [9999, 10001]},
        "splits.parts.P2: it must start before it ends, within the 10000 images of test",
    ),
    "empty range": ("splits.parts.P1", {"of": "train", "range": [5, 5]}, "must start before it"),
    "share of no image": ("splits.parts.P1.share", [0.5, 0.500001], "must start before it ends"),
    "reversed share": ("splits.parts.P1.share", [0.5, 0.1], "must start before it ends"),
    "part named as a base set": (
        "splits.parts.test",
        {"of": "train", "share": [0, 0.5]},
        "splits.parts.test: the name of a base set is taken",
    ),
    "reserved name in capitals": ("models.Noise", CONV, "models.Noise: the name is taken"),
    "label that is a column": (
        "models.M1.label",
        "attacked",
        "models.M1.label: 'attacked' is a column of the tables; choose another label",
    ),
    "label that is read like a column": (
        "models.M1.label",
        "mean distortion",
        "is a column of the tables",
    ),
    "label of printed numbers": ("models.M1.label", "M2_printed", "is a column of the tables"),
    "printed numbers of another kind": (
        "tables.table1.printed",
        "szegedy2013-table2.csv",
        "tables.table1.printed: szegedy2013-table2.csv has no column model, so it is no table of",
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
def test_mistake_is_told_in_a_sentence(config, lines_of, path, value, sentence):
    """One line that says where it is, what is wrong, and the nearest known name."""
    first, line = lines_of(edited(config, path, value))
    assert first == "the configuration has a mistake:"
    assert sentence in line and len(line) < 200


@pytest.mark.parametrize("config", [None, [], "text", 3], ids=repr)
def test_configuration_that_is_no_mapping(lines_of, config):
    sentence = f"  - the configuration must be a mapping, not {config!r}"
    assert lines_of(config) == ["the configuration has a mistake:", sentence]


def test_empty_configuration(lines_of):
    wanted = ("study", "dataset", "models", "experiments")
    assert lines_of({})[1:] == [f"  - {key} is missing" for key in wanted]


def test_images_that_cannot_be_halved_so_often(config, lines_of):
    config = edited(config, "dataset", "digits")
    config = edited(config, "models.conv.channels", [4, 4, 4, 4])
    assert any("models.conv.channels" in line for line in lines_of(config))


def test_every_mistake_is_told_at_once(config, lines_of):
    """Each once, with their number."""
    config = edited(config, "models.M1.split", "P3")
    config = edited(config, "experiments.cross_model.attack", "none")
    config = edited(config, "models.M2.label", "M1")
    first, *lines = lines_of(config)
    assert len(lines) == len(set(lines)) and f"{len(lines)} mistakes" in first
    for text in ("'P3'", "'none'", "models.M2.label"):
        assert any(text in line for line in lines)


def test_two_missing_keys_are_told_once_each(config, lines_of):
    lines = lines_of(edited(config, "attacks.mine", {"images": "test"}))[1:]
    assert len(lines) == len(set(lines)) == 2


REPEATED = {
    "at the top": ("a: 1\nb: 2\na: 3\n", "line 3: a is"),
    "below": ("models:\n  M1: {}\n  M2: {}\n  M1: {}\n", "line 4: models.M1 is"),
    "in a list": ("- {a: 1}\n- {a: 1, b: 2, a: 3}\n", "line 2: [1].a is"),
    "in JSON, with tabs": ('{"a":\t[{"b": 1,\n\t"b": 2}]}', "a[0].b is"),
    "in JSON, spelt in two ways": ('{"a": 1, "\\u0061": 2}', "a is"),
    "in JSON, behind a mark": ('\ufeff{"a": {"b": 1,\n "b": 2}}', "line 2: a.b is"),
    "beside an alias of itself": ("a: &x {b: *x}\na: 2\n", "line 2: a is"),
}


@pytest.mark.parametrize(("text", "told"), REPEATED.values(), ids=REPEATED)
def test_key_that_is_given_twice(text, told):
    """Their readers would keep the last and say nothing."""
    with pytest.raises(UserError) as caught:
        refuse_repeated_keys("my.txt", text)
    sentence = f"{told} given a second time; rename or remove one of the two"
    assert str(caught.value) in (f"my.txt, {sentence}", f"my.txt: {sentence}")


@pytest.mark.parametrize(
    "text", ["", "a: 1\nb: {a: 1}\n", "[{a: 1}, {a: 1}]", '{"a":\t{"b": 1},\n\t"b": [1, 2]}']
)
def test_keys_that_are_given_once(text):
    refuse_repeated_keys("my.yaml", text)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (None, "foo.yaml does not name its study, which would overwrite another one; write"),
        ("other", "foo.yaml names its study 'other'; write"),
        ("Foo", "foo.yaml names its study 'Foo'; write"),
        (7, "foo.yaml names its study 7; write"),
    ],
)
def test_study_that_is_not_named_like_its_file(name, told):
    with pytest.raises(UserError) as caught:
        refuse_other_name(Path("studies/foo.yaml"), name)
    assert str(caught.value).startswith(f"studies/{told} `study: foo` in it")


def test_study_that_is_named_like_its_file():
    refuse_other_name(Path("studies/foo.yaml"), "foo")


# What --config makes of what is typed, and what is said of it ------------------------------------

IN_A_FILE = "into a YAML file, and name that behind --configfile"
TYPED = {
    "list of numbers": (
        "seeds=[1, 2]",
        f"seeds[1] must be a number, not the text '2'{{}}write seeds {IN_A_FILE}",
    ),
    "list of a quoted number": ('seeds=["1"]', f"not the text '1'{{}}write seeds {IN_A_FILE}"),
    "number for a list": ("seeds=1", f"seeds must be a list, not 1{{}}write seeds {IN_A_FILE}"),
    "number in a mapping": (
        "threads={train: 2}",
        f"threads.train must be a number, not the text '2'{{}}write threads {IN_A_FILE}",
    ),
    "number with an exponent": (
        "training={tolerance: 1e-3}",
        f"1.0e-3{{}}write training {IN_A_FILE}",
    ),
    "number below a choice": (
        "models={M1: {weight_decay: [1e-4]}}",
        f"models.M1.weight_decay[0] must be a number{{}}write models {IN_A_FILE}",
    ),
    "option of an attack": (
        "attacks={test-random: {options: {evaluations: 9}}}",
        f"evaluations must be a number, not the text '9'{{}}write attacks {IN_A_FILE}",
    ),
    "option of a user's factory": (
        "models={M1: {architecture: 'my:net', options: {width: 3}}}",
        f"models.M1.options.width is the text '3'{{}}write models {IN_A_FILE}",
    ),
    "truth in lower case": (
        "download=true",
        "not 'true'; on the command line write download=True or download=False",
    ),
    "null": (
        "tables=null",
        "tables must be a mapping, not 'null'; on the command line write tables= with",
    ),
    "null in a mapping": (
        "tables={table1: null}",
        f"tables.table1 must be a mapping, not 'null'{{}}write tables {IN_A_FILE}",
    ),
    "text that looks like a number": (
        "data_root=12",
        f"data_root must be text, not 12{{}}write data_root {IN_A_FILE}",
    ),
}


@pytest.mark.parametrize(("typed", "told"), TYPED.values(), ids=TYPED)
def test_type_that_the_command_line_loses(config, schema, typed, told):
    given = parse_config([typed])
    update_config(config, given)
    with pytest.raises(UserError) as caught:
        validated(config, schema, {}, given)
    for part in told.split("{}"):
        assert part in str(caught.value)


def test_what_the_command_line_can_say(config, schema, files):
    given = parse_config(
        ["chunk=7", "download=False", "tables=", "device=cpu", "models={M1: {label: 1}}"]
    )
    update_config(config, given)
    found, _ = validated(config, schema, files, given)
    assert (found["chunk"], found["download"], found["tables"]) == (7, False, {})
    assert found["models"]["M1"]["label"] == "1"


def test_same_mistake_in_a_file(config, schema):
    """Where the command line is not to blame, it is not spoken of."""
    config["seeds"] = ["1"]
    for given in ({}, {"seeds": ["2"]}):
        with pytest.raises(UserError) as caught:
            validated(config, schema, {}, given)
        assert "--config" not in str(caught.value)


# Paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/a/{x}", "/a/{x} holds braces, which Snakemake takes for wildcards; rename it"),
        ("/a:b/c", "/a:b/c holds a colon, at which PATH and PYTHONPATH are cut; rename it"),
        ("/a/\udcff", r"'/a/\udcff' holds bytes that are not UTF-8; rename it"),
    ],
)
def test_path_that_steps_cannot_start_from(path, told):
    with pytest.raises(UserError) as caught:
        refuse_odd_path(Path(path))
    assert str(caught.value) == told
    told.encode()  # can be printed


def test_path_of_odd_characters_that_do_no_harm():
    refuse_odd_path(Path("/-a *?[x]#%;&|<>!~=,@`(x)^+$'\"\\\nü\t "))


# The data root -----------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [True, False])
def test_data_root_means_the_same_wherever_it_is_said(monkeypatch, variable):
    def root(text):
        monkeypatch.setenv("BLINDSPOTS_DATA", text if variable else "")
        return data_root({"data_root": "elsewhere" if variable else text})

    monkeypatch.setenv("HOME", "/home/me")
    assert root("~/sets") == "/home/me/sets"
    assert root("~") == "/home/me"
    assert root("sets/") == "sets/"
    assert root("-sets") == "./-sets"
    assert root("$HOME/{x} ü") == "$HOME/{x} ü"
    name = "BLINDSPOTS_DATA" if variable else "data_root"
    with pytest.raises(
        UserError, match=f"^{name}: ~nobody-here is nobody's home folder here; write ./~"
    ):
        root("~nobody-here/sets")
    with pytest.raises(UserError, match=f"^{name}: 'a.nb' must be one line"):
        root("a\nb")
    with pytest.raises(UserError, match=f"^{name}: .* is not UTF-8"):
        root("a\udcff")


def test_columns_of_the_tables_are_no_labels(root):
    """The names that a label would overwrite are those that the tables use."""
    source = (root / "src/blindspots/experiments/transfer/tables.py").read_text(encoding="utf-8")
    assert all(f'"{column}"' in source for column in (*COLUMNS, *ROW_NAMES.values(), PRINTED))


# Modules of users --------------------------------------------------------------------------------

MODULES = {
    "mistake": (b"def build(:\n", "own.py, line 1, is not valid Python: invalid syntax"),
    "null byte": (b"a = 1\0\n", "own.py is not valid Python: source code string cannot"),
    "no UTF-8": (b"a = '\xff'\n", "is not valid Python: (unicode error) 'utf-8' codec"),
    "pickle": (pickle.dumps({"a": 1}), "is not valid Python"),
}


@pytest.mark.parametrize(("content", "told"), MODULES.values(), ids=MODULES)
def test_module_that_is_not_valid(tmp_path, content, told):
    (tmp_path / "own.py").write_bytes(content)
    with pytest.raises(UserError) as caught:
        fingerprint_user_module("own:build", [str(tmp_path)])
    assert told in str(caught.value) and "\n" not in str(caught.value)


# Files of data sets ------------------------------------------------------------------------------

SIDE, SIZES = 2, {"train": 3, "test": 2}
IMAGES = IDX_FILES["train", "images"]
IDX = {
    IDX_FILES[base, kind]: head + bytes(size * step)
    for base, size in SIZES.items()
    for kind, head, step in (
        ("images", struct.pack(">4I", 2051, size, SIDE, SIDE), SIDE * SIDE),
        ("labels", struct.pack(">2I", 2049, size), 1),
    )
}


class Hostile:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hostile(folder):
    """Return a pickle that would make the file ``folder/made``."""
    return pickle.dumps(Hostile(folder / "made"))


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The folder of the four files of a tiny data set, whose digests nobody knows."""
    monkeypatch.setitem(CATALOGUE, "mnist", Entry("MNIST", SIZES, side=SIDE, folder="MNIST"))
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for file, content in IDX.items():
        (folder / file).write_bytes(content)
    return folder


FILES = {
    "pickle": ("", hostile, "bytes; expected 28"),
    "compressed pickle": (".gz", lambda folder: gzip.compress(hostile(folder)), "expected 28"),
    "pickle for an archive": (".gz", hostile, "cannot be read (Not a gzipped file"),
    "archive of too much": (  # it ends too early, but nobody should read that far
        ".gz",
        lambda folder: gzip.compress(bytes(10**7), 1)[:-100],
        "holds more than 28 bytes; expected 28",
    ),
    "archive of another file": (
        ".gz",
        lambda folder: gzip.compress(IDX[IDX_FILES["train", "labels"]]),
        "holds 11 bytes; expected 28",
    ),
    "labels for images": (
        "",
        lambda folder: struct.pack(">2I", 2049, 20) + bytes(20),
        "starts with 00000801",
    ),
    "images of another side": (
        "",
        lambda folder: struct.pack(">4I", 2051, 3, 1, 4) + bytes(12),
        "starts with 00000803000000030000000100000004; expected 00000803000000030000000200000002",
    ),
}


@pytest.mark.parametrize(("suffix", "content", "told"), FILES.values(), ids=FILES)
def test_file_of_a_data_set(raw, tmp_path, suffix, content, told):
    load_dataset("mnist", tmp_path, download=False)
    (raw / IMAGES).unlink()
    (raw / f"{IMAGES}{suffix}").write_bytes(content(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        load_dataset("mnist", tmp_path, download=False)
    assert str(caught.value).startswith(f"{raw / IMAGES}{suffix} ") and told in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("download", [False, True])
def test_file_for_a_data_root(tmp_path, download):
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(UserError, match=r"/data is not a folder\. To get"):
        load_dataset("mnist", tmp_path / "data", download)


def test_file_that_may_not_be_read(raw, tmp_path):
    (raw / IMAGES).chmod(0)
    if os.access(raw / IMAGES, os.R_OK):
        pytest.skip("root may read everything")
    with pytest.raises(UserError, match=r"cannot be read .*Permission denied"):
        load_dataset("mnist", tmp_path, download=False)


# Artifacts ---------------------------------------------------------------------------------------

JOB = "j" * 64


def safetensors_bytes(tensors, data, provenance):
    header = {"__metadata__": {artifacts.HEADER_KEY: provenance}, **tensors}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def torch_archive(folder):
    torch.save(Hostile(folder / "made"), folder / "saved")
    content = (folder / "saved").read_bytes()
    (folder / "saved").unlink()
    return content


def tensor(dtype, shape, end):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


FOREIGN = {
    "pickle": hostile,
    "pickle of torch": torch_archive,
    "another safetensors": lambda folder: safetensors_bytes(tensor("F32", [1], 4), b"1234", "{}"),
    "type that numpy lacks": lambda folder: safetensors_bytes(
        tensor("BF16", [1], 2), b"12", json.dumps({"job": JOB})
    ),
    "unknown type": lambda folder: safetensors_bytes(
        tensor("X", [1], 2), b"12", json.dumps({"job": JOB})
    ),
    "fewer bytes than announced": lambda folder: safetensors_bytes(
        tensor("F32", [9], 36), b"1234", json.dumps({"job": JOB})
    ),
    "NaN in the provenance": lambda folder: safetensors_bytes(
        {}, b"", f'{{"job":"{JOB}","a":NaN}}'
    ),
    "nested header": lambda folder: struct.pack("<Q", 10**5) + b"[" * 10**5,
    "nested provenance": lambda folder: safetensors_bytes({}, b"", "[" * 10**5),
    "announced header of exabytes": lambda folder: struct.pack("<Q", 2**62) + b"{}",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file_for_an_artifact(tmp_path, content):
    """Refused in one sentence that says what to do; nothing is unpickled."""
    path = tmp_path / "set.safetensors"
    path.write_bytes(content(tmp_path))
    with pytest.raises(UserError) as caught:
        artifacts.read_tensors(path, JOB)
    text = str(caught.value)
    assert text.startswith(f"{path} ") and text.endswith("; delete it and run again")
    assert "\n" not in text and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [hostile, lambda folder: b"\xff\xfe", lambda folder: b"[]"])
def test_foreign_file_for_a_sidecar(tmp_path, content):
    path = tmp_path / "transfer.csv"
    path.write_text("a\n")
    artifacts.sidecar_path(path).write_bytes(content(tmp_path))
    with pytest.raises(UserError, match=r"transfer\.csv\.json is damaged"):
        artifacts.check_sidecar(path, JOB)
    assert not (tmp_path / "made").exists()


PRINTED_NUMBERS = {
    "empty": b"",
    "longer line": b"model,test_error\nsoftmax1,0.1,0.2,0.3\nsoftmax2,0.1,0.2,0.3,0.4\n",
    "bytes that are no text": b"model,test_error\n\xff,0.1\n",
    "pickle": pickle.dumps([1]),
}


@pytest.mark.parametrize("content", PRINTED_NUMBERS.values(), ids=PRINTED_NUMBERS)
def test_file_that_holds_no_printed_numbers(tmp_path, content):
    path = tmp_path / "printed.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_printed(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a CSV file in UTF-8: ") and "\n" not in text


FACTS = {"maximum": 16, "classes": 10, "shape": [1, 2, 2]}
GOOD_DATA = {
    "train_images": np.full((3, 1, 2, 2), 16, np.uint8),
    "train_labels": np.array([0, 9, 1]),
}
GOOD_SET = {
    "images": np.full((3, 1, 2, 2), 0.5, np.float32),
    "labels": np.array([0, 9, 1]),
    "targets": np.array([1, 2, -1]),
    "success": np.array([True, True, False]),
    "indices": np.array([0, 5, 7]),
}
NAN_PIXEL = GOOD_SET["images"].copy()
NAN_PIXEL[1, 0, 1, 1] = np.nan
# Tensors in the place of good ones, in files that are else whole and of the right job.
CONTENT = {
    "NaN pixels in the data": (
        {"train_images": NAN_PIXEL},
        "train_images are float32 of shape (3, 1, 2, 2), not uint8 of shape (3, 1, 2, 2)",
    ),
    "pixel above the maximum": (
        {"train_images": GOOD_DATA["train_images"] + np.uint8(1)},
        "train_images are not all within 0 to 16",
    ),
    "images of another shape": (
        {"train_images": np.zeros((3, 2, 2), np.uint8)},
        "train_images are uint8 of shape (3, 2, 2), not uint8 of shape (3, 1, 2, 2)",
    ),
    "fewer images than labels": (
        {"train_images": np.zeros((2, 1, 2, 2), np.uint8)},
        "train_images are uint8 of shape (2, 1, 2, 2), not uint8 of shape (3, 1, 2, 2)",
    ),
    "label above the classes": (
        {"train_labels": np.array([0, 10, 1])},
        "train_labels are not all within 0 to 9",
    ),
    "negative label": ({"train_labels": np.array([0, -1, 1])}, "train_labels are not all within"),
    "labels of another type": (
        {"train_labels": np.zeros(3, np.float32)},
        "train_labels are float32 of shape (3,), not int64 of shape (3,)",
    ),
    "no images": ({"train_images": None}, "holds no train_images"),
    "NaN pixels in a set": ({"images": NAN_PIXEL}, "images are not all within 0 to 1"),
    "pixel above 1": ({"images": GOOD_SET["images"] * 3}, "images are not all within 0 to 1"),
    "images of another type": (
        {"images": GOOD_SET["images"].astype(np.float64)},
        "images are float64 of shape (3, 1, 2, 2), not float32 of shape (3, 1, 2, 2)",
    ),
    "target above the classes": (
        {"targets": np.array([1, 2, 10])},
        "targets are not all within -1 to 9",
    ),
    "fewer targets than labels": (
        {"targets": np.array([1, 2])},
        "targets are int64 of shape (2,), not int64 of shape (3,)",
    ),
    "numbers for success": (
        {"success": np.ones(3)},
        "success are float64 of shape (3,), not bool of shape (3,)",
    ),
    "negative index": ({"indices": np.array([0, -1, 1])}, "indices are not all within 0 to inf"),
}


@pytest.mark.parametrize(("other", "told"), CONTENT.values(), ids=CONTENT)
def test_content_of_an_artifact(tmp_path, other, told):
    path, device = tmp_path / "a.safetensors", torch.device("cpu")
    is_data = not other.keys() <= GOOD_SET.keys()
    good = GOOD_DATA if is_data else GOOD_SET

    def load():
        if is_data:
            return load_images(path, JOB, {"of": "train"}, device)
        return load_adversarial_set(path, JOB, FACTS, device)

    artifacts.write_tensors(path, good, {"job": JOB, "facts": FACTS})
    load()
    tensors = {name: array for name, array in {**good, **other}.items() if array is not None}
    artifacts.write_tensors(path, tensors, {"job": JOB, "facts": FACTS})
    with pytest.raises(UserError) as caught:
        load()
    text = str(caught.value)
    assert (
        text.startswith(f"{path}") and told in text and text.endswith("; delete it and run again")
    )


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_of_another_network(tmp_path, change):
    path, architecture = tmp_path / "a.safetensors", {"kind": "softmax"}
    weights = build_network(architecture, (1, 2, 2), 10, seed=0).state_dict()
    weights = {name: weight.numpy() for name, weight in weights.items()}
    name = next(iter(weights))
    weights[name] = weights[name][:-1]
    if change == "missing":
        del weights[name]
    network = {"architecture": architecture, "shape": [1, 2, 2], "classes": 10}
    artifacts.write_tensors(path, weights, {"job": JOB, "network": network})
    with pytest.raises(UserError, match="holds other weights than its network; delete it and run"):
        load_network(path, JOB, torch.device("cpu"))


# Steps -------------------------------------------------------------------------------------------


def run_step(root, step, spec, folder, *options, **environment):
    """Run a step as the workflow does, from a command line."""
    command = [sys.executable, "-m", f"blindspots.{step}", "--spec", json.dumps(spec)]
    return subprocess.run(
        [*command, "--code", "c", *map(str, options)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root / "src"), **environment},
        capture_output=True,
        text=True,
    )


def told_in_one_line(done):
    """Return the one line that a step which failed on bad input has to say."""
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.endswith(f"{line}\n") and done.stdout == ""
    return line


@pytest.mark.parametrize("blocked", ["file", "read-only"])
def test_folder_that_cannot_be_written(root, tmp_path, blocked):
    if blocked == "file":
        (tmp_path / "results").write_text("")
    else:
        (tmp_path / "results").mkdir(mode=0o500)
        if os.access(tmp_path / "results", os.W_OK):
            pytest.skip("root may write everywhere")
    before = sorted(tmp_path.rglob("*"))
    output = tmp_path / "results/data.safetensors"
    options = ("--to", output)
    done = run_step(root, "data.sources.digits", {"dataset": "digits"}, tmp_path, *options)
    said = "a file is where a folder should be" if blocked == "file" else "permission denied"
    line = told_in_one_line(done)
    assert str(tmp_path / "results") in line and line.endswith(said)
    assert sorted(tmp_path.rglob("*")) == before


def test_training_that_diverges(root, tmp_path):
    """A decay that is a number, but not for float32."""
    data = tmp_path / "data.safetensors"
    artifacts.write_tensors(data, GOOD_DATA, {"job": JOB, "facts": FACTS})
    training = {"optimizer": "lbfgs", "weight_decay_convention": "half_l2", "weight_decay": [1e300]}
    spec = {
        "architecture": {"kind": "softmax"},
        "training": {
            **training,
            "preconditioner": "kronecker",
            "max_evaluations": 5,
            "history": 5,
            "tolerance": 0.1,
        },
        "split": {"of": "train"},
        "seed": 0,
        "device": "cpu",
        "upstream": {"data": JOB},
    }
    done = run_step(root, "steps.train_model", spec, tmp_path, data, "--to", "m.safetensors")
    line = told_in_one_line(done)
    assert line.startswith("error: the training of m.safetensors diverged, its loss is ")
    assert line.endswith("; lower the model's learning_rate or weight_decay")
    assert list(tmp_path.iterdir()) == [data]


KEPT = """
import numpy as np
import torch
from torch import nn

def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))

class Cast(nn.Module):
    def __init__(self, shape, classes, dtype):
        super().__init__()
        self.layer = plain(shape, classes).to(dtype)
    def forward(self, images):
        return self.layer(images.to(self.layer[1].weight.dtype)).float()

def half(shape, classes):
    return Cast(shape, classes, torch.bfloat16)

def with_buffer(shape, classes, **kind):
    network = plain(shape, classes)
    network.register_buffer("own", kind["buffer"])
    return network

def complex_buffer(shape, classes):
    return with_buffer(shape, classes, buffer=torch.ones(2) + 1j)

def sparse(shape, classes):
    return with_buffer(shape, classes, buffer=torch.eye(3).to_sparse())

def quantised(shape, classes):
    tensor = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    return with_buffer(shape, classes, buffer=tensor)

class Extra(nn.Sequential):
    def get_extra_state(self):
        return {"version": 3}
    def set_extra_state(self, state):
        pass

def extra(shape, classes):
    return Extra(*plain(shape, classes))

def not_finite(shape, classes):
    network = plain(shape, classes)
    unused = nn.Parameter(torch.full((3,), torch.nan))
    network.register_parameter("unused", unused)
    return network

class Features(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.directions = torch.tensor(np.random.randn(4, 4)).float()
    def forward(self, images):
        return super().forward(images.flatten(1) @ self.directions)

def random_features(shape, classes):
    return Features(*plain(shape, classes))

class Growing(nn.Sequential):
    built = 0
    def __init__(self, *layers):
        super().__init__(*layers)
        Growing.built += 1
        for number in range(Growing.built):
            self.register_buffer(f"extra{number}", torch.zeros(1))

def growing(shape, classes):
    return Growing(*plain(shape, classes))

def frozen(shape, classes):
    return plain(shape, classes).requires_grad_(False)

def without_weights(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(classes))

class Detached(nn.Sequential):
    def forward(self, images):
        return super().forward(images).detach()

def detached(shape, classes):
    return Detached(*plain(shape, classes))

def elsewhere(shape, classes):
    return plain(shape, classes).to("meta")

def missing_file(shape, classes):
    return torch.load("no such file")

def key(shape, classes):
    return {}["weights"]

class Tied(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)
        self.last.weight = self.first.weight
        self.head = nn.LazyLinear(classes)
        self.register_buffer("mask", torch.full((2, 3), -torch.inf).T)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
    def forward(self, images):
        return self.head(self.last(self.first(images.flatten(1)).relu()))

def tied(shape, classes):
    return Tied(shape[1] * shape[2], classes)
"""
REFUSED = {
    "half": "has weights of torch.bfloat16",
    "complex_buffer": "its own is torch.complex64",
    "sparse": "its own is torch.float32, torch.sparse_coo, which is not saved",
    "quantised": "its own is torch.qint8",
    "extra": "its _extra_state is of type dict, not a tensor",
    "not_finite": "its unused is not finite",
    "random_features": "it answers otherwise when it is built again and given its weights",
    "growing": "Unexpected key|Missing key",
    "frozen": "no weights to train, or all of them are frozen",
    "without_weights": "no weights to train, or all of them are frozen",
    "detached": "does not require grad",
    "elsewhere": "meta",
    "missing_file": "FileNotFoundError: .*no such file",
    "key": "KeyError: 'weights'",
}
TRAINING = {"optimizer": "sgd", "weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
TRAINING |= {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "momentum": 0.5}


@pytest.fixture
def train_own(tmp_path, monkeypatch):
    """Return a function that trains a network of KEPT, and the folder that it is kept in."""
    monkeypatch.setattr(artifacts, "HOST", "here")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_kept.py").write_text(KEPT)
    data = tmp_path / "data.safetensors"
    artifacts.write_tensors(data, GOOD_DATA, {"job": JOB, "facts": FACTS})

    def train(factory):
        spec = {
            "architecture": {"kind": f"own_kept:{factory}"},
            "training": TRAINING,
            "split": {"of": "train"},
            "seed": 0,
            "device": "cpu",
            "upstream": {"data": JOB},
        }
        files = SimpleNamespace(data=data, model=tmp_path / "m.safetensors")
        train_model.main(Job(spec, "code", JOB, 1), files)
        return files.model

    yield train
    sys.modules.pop("own_kept", None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("factory", REFUSED)
def test_network_that_cannot_be_kept_is_refused_before_it_is_trained(
    factory, train_own, monkeypatch
):
    monkeypatch.setattr(train_model, "train_classifier", lambda *_: pytest.fail("was trained"))
    with pytest.raises(
        UserError, match=f"own_kept:{factory} failed: .*({REFUSED[factory]})"
    ) as told:
        train_own(factory)
    assert "\n" not in str(told.value)


def test_unusual_network_is_kept(train_own, caplog):
    """Shared, lazy, not contiguous weights, an infinite buffer; it is said what is trained."""
    with caplog.at_level("INFO"):
        network, _ = load_network(train_own("tied"), JOB, torch.device("cpu"))
    assert torch.equal(network.first.weight, network.last.weight)
    assert "training 74 of 74 weights of own_kept:tied" in caplog.text
    assert "from the values that it returned: weights that were trained before" in caplog.text


def test_weights_that_are_not_finite_after_training(train_own, monkeypatch):
    """With a loss that still was."""

    def spoil(network, *_):
        torch.nn.init.constant_(network[1].weight, torch.inf)
        return {"loss": 1.0, "converged": None}

    monkeypatch.setattr(train_model, "train_classifier", spoil)
    with pytest.raises(
        UserError, match=r"diverged, its 1\.weight is not finite; lower the model's"
    ):
        train_own("plain")


def test_output_that_cannot_be_written_is_told_before_the_work(root, tmp_path):
    """A folder in its place; the step has not even read its data."""
    (tmp_path / "m.safetensors").mkdir()
    done = run_step(root, "steps.train_model", {}, tmp_path, "none", "--to", "m.safetensors")
    assert told_in_one_line(done) == "error: m.safetensors: a folder is where a file should be"
