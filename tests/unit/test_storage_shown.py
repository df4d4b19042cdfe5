"""Stored images in studies: jobs, checks, tables against hand-computed cases, the grid."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from blindspots.attacks.methods import method
from blindspots.errors import UserError
from blindspots.evaluation import storage
from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.storage import LEVELS, png, stretch_to_survive
from blindspots.evaluation.variants.stored import in_words, name, variants
from blindspots.experiments.transfer.checks import problems
from blindspots.experiments.transfer.plot_adversarial_examples import as_found, as_stored
from blindspots.experiments.transfer.storage_tables import (
    made_table,
    notes,
    numbers,
    own_cells,
    sections,
)
from blindspots.study.config import validated
from blindspots.study.study import Study, columns_of_files
from blindspots.summary.page import page

SURVIVE = {"as": "png", "stretch": "survive"}
WAYS = [{"as": "png", "stretch": 1.01}, {"as": "png"}]


@pytest.fixture
def study_of(schema, reference, tmp_path, monkeypatch):
    """Return the function from a configuration to its study, for which no data lie ready."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))
    return lambda config: Study(config, schema, reference, [str(tmp_path)])


def running(config):
    """Return a configuration that also runs the experiment of stored images."""
    config = deepcopy(config)
    config["run"].append("storage")
    return config


# Jobs and checks ---------------------------------------------------------------------------------


def test_storage_is_not_run_unless_asked_for(config, study_of):
    rules = {job.rule for job in study_of(config).jobs}
    assert not rules & {"measure_storage", "tabulate_storage"}


def test_each_source_is_measured_once_and_the_table_takes_all(config, study_of):
    config = running(config)
    config["seeds"] = [0, 1]
    study = study_of(config)
    sources = config["experiments"]["storage"]["sources"]
    measured = [job for job in study.jobs if job.rule == "measure_storage"]
    runs = {(job.wildcards["model"], job.wildcards["seed"]) for job in measured}
    assert len(measured) == len(runs) == 10 and {model for model, _ in runs} == set(sources)
    job = study.job("tabulate_storage", experiment="storage")
    assert job in study.jobs
    pairs = [(r.wildcards["model"], r.wildcards["seed"]) for r in job.inputs["records"]]
    assert pairs == [(source, seed) for source in sources for seed in (0, 1)]
    spec = json.loads(job.spec)
    assert spec["labels"]["M1p"] == "M1'" and spec["title"] == "Storage"
    assert spec["stored"][-1] == ["stored_jpeg_75_x1.1", "1.1 x, JPEG 75"]


def test_a_grid_takes_the_model_only_where_images_are_stored(config, study_of):
    grid = config["figures"]["examples"]["figure7a"]
    plain = study_of(config).job("plot_adversarial_examples", grid="figure7a")
    assert list(plain.inputs) == ["data", "set"]
    assert set(json.loads(plain.spec)) == {"base", "label", "upstream", "versions"}
    grid["stored"] = SURVIVE
    stored = study_of(config).job("plot_adversarial_examples", grid="figure7a")
    assert list(stored.inputs) == ["data", "set", "source"]
    assert stored.inputs["source"].wildcards["model"] == "softmax1"
    assert json.loads(stored.spec)["stored"] == {"kind": "stored", **SURVIVE}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            ("experiments", "storage", "victims"),
            ["softmax1", "softmax2", "M1", "M1p"],
            "experiments.storage.victims: M2 is not among them",
        ),
        (
            ("figures", "examples", "figure7c", "stored"),
            SURVIVE,
            "figures.examples.figure7c.stored: only adversarial images",
        ),
        (
            ("figures", "examples", "figure7a", "stored"),
            {"as": "truncated"},
            "figures.examples.figure7a.stored.as is 'truncated'; known: png",
        ),
        (
            ("figures", "examples", "figure7a", "stored"),
            {"stretch": 1.01},
            "figures.examples.figure7a.stored.as is missing",
        ),
        (
            ("figures", "examples", "figure7a", "stored"),
            {"as": "png", "stretch": 1},
            "figures.examples.figure7a.stored.stretch must be above 1",
        ),
    ],
    ids=["victim", "noise", "format", "no format", "factor"],
)
def test_what_cannot_be_shown_is_told(config, schema, reference, place, value, said):
    *above, key = place
    entry = config
    for part in above:
        entry = entry[part]
    entry[key] = value
    with pytest.raises(UserError) as error:
        validated(config, schema, columns_of_files(reference))
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and lines[1].startswith(f"  - {said}")


def test_images_of_other_channels_are_no_pictures(config, schema, reference):
    """Rounding alone would do with any; a file does not."""
    config["figures"]["examples"]["figure7a"]["stored"] = {"as": "png"}
    config, found = validated(config, schema, columns_of_files(reference))
    entries = {n: e for n, e in config["experiments"].items() if e["kind"] == "transfer"}

    def told(channels):
        facts = replace(found, shape=(channels, 28, 28))
        told = problems(config, entries, facts, columns_of_files(reference))
        return [said.partition(":")[0] for said in told if "three channels" in said]

    assert told(4) == ["experiments.storage.stored", "figures.examples.figure7a.stored"]
    entries["storage"]["stored"] = [{"as": "png"}]
    assert told(4) == ["figures.examples.figure7a.stored"]
    assert told(1) == told(3) == []


# Tables ------------------------------------------------------------------------------------------


def row(source, seed, variant, hit, *, victim=None, attack="few", rms=0.1):
    """Return a cell: 10 images attacked, 2 failed, of which so many hit the target."""
    return {
        "source": source,
        "victim": victim or source,
        "seed": seed,
        "victim_seed": seed,
        "attack": attack,
        "variant": variant,
        "rms": rms,
        "n_attacked": 10,
        "n_failed": 2,
        "n_fooled": hit + 1,
        "target_hit": hit,
    }


def spec(**changed):
    return {
        "title": "Storage",
        "dataset": "UCI digits",
        "pool": "few",
        "attack": "few",
        "targets": "random",
        "seeds": [0],
        "sources": ["B", "A"],
        "labels": {"A": "Model <A>", "B": "B"},
        "stored": [[name(way), in_words(way)] for way in variants(WAYS, False)],
    } | changed


def cells(seeds=(0,)):
    """Cells of two sources, among those of other victims, attacks, variants and noise."""
    rows = []
    for seed in seeds:
        for source, lost in (("A", 0), ("B", 1)):
            rows += [
                row(source, seed, "as_found", 7),
                row(source, seed, "stored_png", 5 - lost - seed, rms=0.11),
                row(source, seed, "stored_png_x1.01", 7 - lost, rms=0.12),
                row(source, seed, "stored_truncated", 1),
                row(source, seed, "amplified", 3),
                row(source, seed, "stored_png", 0, victim="C"),
                row(source, seed, "stored_png", 0, attack="other"),
            ]
        rows.append(row("noise", seed, "gaussian", 0, victim="A"))
    return pd.DataFrame(rows)


def records(seeds=(0,), sources=("B", "A")):
    """What was measured: 0.25 logits of margin and quartiles around it."""
    one = {"mean": 0.25, "quartiles": [0.125, 0.25, 0.5]}
    names = ("margin", "statistical", "statistical_share", "guaranteed", "guaranteed_share")
    measures = dict.fromkeys((*names, "rounding_rms"), one)
    return [{"source": s, "seed": e, "measures": measures} for s in sources for e in seeds]


def shown(described, cells, records):
    own = own_cells(cells, described)
    table = made_table(own, described, records)
    return numbers(table, described["labels"]), sections(table, own, described, records)


def test_shares_are_those_counted_by_hand():
    """Two denominators, in the order asked for; nothing of other victims, attacks or variants."""
    table, _ = shown(spec(), cells(), records())
    assert table["model"].tolist() == ["B", "B", "Model <A>", "Model <A>"]
    assert table["of"].tolist() == ["attacked", "successes"] * 2
    assert table["images"].tolist() == [10, 8, 10, 8]
    ways = ["as_found", "stored_png_x1.01", "stored_png"]
    assert [c for c in table if c in ways] == ways
    assert table["stored_png"].tolist() == [0.4, 0.5, 0.5, 0.625]
    assert table["stored_png_x1.01"].tolist() == [0.6, 0.75, 0.7, 0.875]
    assert table["as_found"].tolist() == [0.7, 0.875] * 2
    for place, (count, total) in enumerate([(4, 10), (4, 8), (5, 10), (5, 8)]):
        bounds = (table["stored_png_low"][place], table["stored_png_high"][place])
        assert bounds == wilson_interval(count, total)
    assert table["margin"].tolist() == [0.25] * 4
    assert table["statistical_share"].tolist() == [0.25] * 4


def test_sections_say_the_same_in_words():
    _, (attacked, successes, sizes, margins) = shown(spec(), cells(), records())
    assert attacked[0] == "Storage: target still hit, of the images attacked"
    assert attacked[2].columns.tolist() == [
        *("model", "images", "margin", "as found", "1.01 x, PNG", "PNG")
    ]
    first = attacked[2].iloc[0]
    assert first["model"] == ["B"] and first["images"] == ["10"]
    low, high = wilson_interval(4, 10)
    assert first["PNG"] == ["40.00 %", f"[{100 * low:.2f}, {100 * high:.2f}]"]
    assert first["margin"] == ["0.25", "quartiles 0.12, 0.25, 0.5"]
    assert successes[2].iloc[1]["PNG"][0] == "62.50 %"
    assert sizes[2].iloc[1].tolist() == [["Model <A>"], ["0.1000"], ["0.1200"], ["0.1100"]]
    assert margins[2].iloc[0]["statistical share"] == ["25 %", "quartiles 12, 25, 50"]
    assert "Model &lt;A&gt;" in page([attacked]) and "<A>" not in page([attacked])


def test_untargeted_attacks_count_whatever_is_misclassified():
    described = spec(targets="untargeted")
    untargeted = cells()
    untargeted.loc[untargeted["attack"] == "other", "target_hit"] = float("nan")
    table, (attacked, *_) = shown(described, untargeted, records())
    assert table["stored_png"].tolist() == [0.5, 0.625, 0.6, 0.75]
    assert "still misclassified" in attacked[0]
    assert "a label other than the true one" in attacked[1] and "third" not in attacked[1]
    assert "a third label" in notes(spec())


def test_seeds_have_a_row_each_and_the_notes_say_so():
    described = spec(seeds=[0, 1])
    table, (attacked, *_) = shown(described, cells((0, 1)), records((0, 1)))
    assert table[["model", "seed"]].drop_duplicates().to_numpy().tolist() == [
        *(["B", 0], ["B", 1], ["Model <A>", 0], ["Model <A>", 1])
    ]
    assert table[table["of"] == "attacked"]["stored_png"].tolist() == [0.4, 0.3, 0.5, 0.4]
    assert attacked[2]["seed"].tolist() == [["0"], ["1"], ["0"], ["1"]]
    assert "do not tell how much seeds differ" in notes(described)
    assert "seeds differ" not in notes(spec())


def test_a_source_without_success_has_empty_cells():
    none = cells().assign(n_failed=10, n_fooled=0, target_hit=0, rms=float("nan"))
    nothing = [record | {"measures": {}} for record in records()]
    table, (attacked, successes, sizes, margins) = shown(spec(), none, nothing)
    assert table["stored_png"].fillna(-1).tolist() == [0, -1, 0, -1]
    assert attacked[2].iloc[0]["PNG"][0] == "0.00 %" and attacked[2].iloc[0]["margin"] == [""]
    assert successes[2].iloc[0]["PNG"] == [""]
    assert sizes[2].iloc[0]["PNG"] == [""] and margins[2].iloc[0]["margin"] == [""]
    assert "nan" not in page([attacked, successes, sizes, margins])


# The grid ----------------------------------------------------------------------------------------


@pytest.fixture
def attacked(softmax, digits):
    """The network, originals, and a set of them as it is read from a file."""
    images, labels = (part[:60] for part in digits)
    found = method("lbfgs")(softmax, images, labels, targets=(labels + 3) % 10)
    found = {name: getattr(found, name) for name in ("images", "rms", "targets", "success")}
    return softmax, images, {n: t.numpy() for n, t in {**found, "labels": labels}.items()}


def stored(attacked, way, places, targets="random"):
    network, originals, found = attacked
    (way,) = variants([way], True)
    return as_stored(found, places, originals[places], network, way, targets)


def test_stored_images_are_on_the_grid_and_losses_are_marked(attacked):
    network, originals, found = attacked
    places = np.arange(5, 60)
    shown = stored(attacked, {"as": "png"}, places)
    levels = shown.images * LEVELS
    assert np.abs(levels - levels.round()).max() < 1e-4
    answers = network(torch.from_numpy(shown.images)).argmax(1).numpy()
    lost = answers != found["targets"][places]
    assert 0 < lost.sum() < len(lost) and np.array_equal(shown.lost, lost)
    change = (shown.images - originals[places].numpy()).reshape(len(places), -1)
    np.testing.assert_allclose(shown.rms, np.sqrt(np.square(change).mean(1)), rtol=1e-5)
    assert np.array_equal(shown.answers, answers)
    assert f"{lost.sum()} of {len(lost)} are lost (framed)" in shown.in_words()


def test_stretched_images_survive_and_none_is_marked(attacked):
    network, originals, found = attacked
    shown = stored(attacked, SURVIVE, np.arange(60))
    tensors = {name: torch.from_numpy(array) for name, array in found.items()}
    wanted = stretch_to_survive(
        network, tensors["images"], originals, tensors["labels"], tensors["targets"]
    )
    assert np.array_equal(shown.images, png(wanted.images).numpy())
    assert not shown.lost.any() and "lost" not in shown.in_words()
    assert shown.rms.mean() > as_found(found, np.arange(60)).rms.mean()
    assert shown.how == ", as 8-bit PNG, stretched until they survive"


def test_of_an_untargeted_attack_only_right_answers_are_lost(attacked):
    network, _, found = attacked
    shown = stored(attacked, {"as": "png", "stretch": 1.01}, np.arange(60), "untargeted")
    answers = network(torch.from_numpy(shown.images)).argmax(1).numpy()
    assert np.array_equal(shown.lost, answers == found["labels"])
    assert shown.how == ", as 8-bit PNG, stretched by 1.01"


@pytest.mark.parametrize("way", WAYS)
def test_a_writer_that_cuts_off_is_refused(attacked, way, monkeypatch):
    def cast(images):
        return (images * LEVELS).to(torch.uint8)

    monkeypatch.setattr(storage, "to_levels", cast)
    with pytest.raises(ValueError, match="cut off in place of rounded"):
        stored(attacked, way, np.arange(60))


def test_as_found_nothing_is_marked(attacked):
    _, _, found = attacked
    shown = as_found(found, np.arange(3))
    assert np.array_equal(shown.images, found["images"][:3])
    assert shown.answers[0] == found["targets"][0] and not shown.lost.any()
    assert shown.in_words() == f"those shown: mean RMS {found['rms'][:3].mean():.3f}"
    assert as_found(found, np.arange(0)).in_words() == "no attack succeeded"
