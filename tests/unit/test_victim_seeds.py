"""Sets that are shown to victims of other seeds: jobs, checks, and means over pairs of seeds."""

from copy import deepcopy
from itertools import product

import numpy as np
import pandas as pd
import pytest

from blindspots.errors import UserError
from blindspots.evaluation.seeds import mean_over_seeds
from blindspots.experiments.transfer.answers import Answers
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.experiments.transfer.figures import transfer_heat_maps
from blindspots.experiments.transfer.tables import caption, make_table
from blindspots.experiments.transfer.victim_seeds import chosen, named, parsed
from blindspots.study.study import Study
from blindspots.summary.style import house_style

SEEDS = [0, 1, 2]


@pytest.fixture
def study_of(config, schema, reference, tmp_path, monkeypatch):
    """Return the function from what experiments ask for to a study of three seeds."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))

    def study(seeds=SEEDS, **experiments):
        changed = deepcopy(config) | {"seeds": seeds}
        for name, entry in experiments.items():
            changed["experiments"][name] |= entry
        return Study(changed, schema, reference, [str(tmp_path)])

    return study


def row_of(study, model, seed):
    return study.job("evaluate_transfer", model=model, seed=seed, attack="test-random")


def test_a_victim_is_named_by_its_seed_where_that_is_another():
    assert [named("M1", seed, 1) for seed in SEEDS] == ["M1/0", "M1", "M1/2"]
    assert [parsed(name, 1) for name in ("M1/0", "M1", "M1/12")] == [("M1", n) for n in (0, 1, 12)]


def test_the_victims_of_a_set_have_the_seeds_that_are_asked_for(study_of):
    same, other, every = (
        row_of(study_of(cross_training_set={"victim_seeds": choice}), "M1", 1)
        for choice in ("same", "other", "all")
    )
    assert same.settings["victims"] == ["M1", "M1p", "M2"]
    models = ("M1", "M1p", "M2")
    assert other.settings["victims"] == [f"{m}/{seed}" for m in models for seed in (0, 2)]
    assert every.settings["victims"] == [f"{m}{s}" for m in models for s in ("/0", "", "/2")]
    made = {name: job.wildcards for name, job in every.inputs["victims"].items()}
    assert made["M2"] == {"model": "M2", "seed": 1}
    assert made["M2/2"] == {"model": "M2", "seed": 2}
    assert same.spec == row_of(study_of(), "M1", 1).spec  # the default


def test_what_other_seeds_ask_for_is_no_training_and_no_attack(study_of):
    def made(study):
        return {j.digest for j in study.jobs if j.rule.startswith(("train", "generate", "prep"))}

    one, other = study_of(), study_of(cross_training_set={"victim_seeds": "all"})
    assert made(one) == made(other)


def test_two_experiments_share_a_row(config, study_of):
    config["experiments"]["baseline"] = {
        "attack": "test-random",
        "sources": ["M1"],
        "victim_seeds": "other",
    }
    config["run"].append("baseline")
    job = row_of(study_of(), "M1", 0)
    assert job.settings["victims"] == ["M1/1", "M1/2", "M1", "M1p", "M2"]


@pytest.mark.parametrize(
    ("seeds", "entry", "told"),
    [
        ([3], {"victim_seeds": "other"}, "there is no other seed than 3; add seeds"),
        ([0, 1], {"victim_seeds": "others"}, "victim_seeds"),
        (
            [0, 1],
            {"victim_seeds": "other", "stored": [{"as": "png"}]},
            "stored images are shown to their own source, which has no other seed; write all",
        ),
        (
            [0, 1],
            {"victim_seeds": "other", "sources": ["fixed", "M1"]},
            "fixed is the same for every seed, so it has no other to be shown to",
        ),
    ],
)
def test_what_has_no_other_seed_is_refused(config, study_of, tmp_path, seeds, entry, told):
    (tmp_path / "fixed.pt").write_bytes(b"weights")
    fixed = {"architecture": "softmax", "weights": str(tmp_path / "fixed.pt"), "description": ""}
    config["models"]["fixed"] = fixed
    with pytest.raises(UserError, match=told):
        study_of(seeds, cross_training_set=entry)


def test_a_fixed_model_is_a_victim_of_other_seeds(config, study_of, tmp_path):
    (tmp_path / "fixed.pt").write_bytes(b"weights")
    fixed = {"architecture": "softmax", "weights": str(tmp_path / "fixed.pt"), "description": ""}
    config["models"]["fixed"] = fixed
    entry = {"victim_seeds": "other", "victims": ["M1", "fixed"]}
    victims = row_of(study_of(cross_training_set=entry), "M1", 1).inputs["victims"]
    assert list(victims) == ["M1/0", "M1/2", "fixed/0", "fixed/2"]
    assert victims["fixed/0"] is victims["fixed/2"]


# What is shown -----------------------------------------------------------------------------------

IMAGES = 200
SPEC = {
    "sources": ["A"],
    "victims": ["A", "B"],
    "labels": {"A": "A", "B": "B"},
    "attack": "attack",
    "pool": "test",
    "targets": "random",
    "seeds": SEEDS,
    "dataset": "MNIST",
    "caption": "",
    "amplify": [],
    "noise": [],
    "kind": "matrix",
}


@pytest.fixture
def measured():
    """The cells of one source, three seeds, on two victims of all seeds; answers; fooled images.

    A model is fooled by 90 % of its own images, by 60 % of those of its other seeds, and another
    one by 30 %.
    """
    generator = np.random.default_rng(5)
    rows, tensors, fooled = [], {}, {}
    for seed in SEEDS:
        bits = []
        for victim, other in product("AB", SEEDS):
            rate = (0.9 if seed == other else 0.6) if victim == "A" else 0.3
            bits.append(generator.random(IMAGES) < rate)
            fooled[victim, seed, other] = bits[-1]
            count, error = int(bits[-1].sum()), bits[-1].mean()
            row = {"source": "A", "victim": victim, "seed": seed, "victim_seed": other}
            row |= {"attack": "attack", "variant": "as_found", "rms": 0.05, "n_fooled": count}
            row |= {"n_attacked": IMAGES, "n_failed": 0, "error": error, "low": 0.1, "high": 0.9}
            rows.append(dict.fromkeys(FIELDS) | row)
        arrays = {"indices": np.arange(IMAGES), "fooled": np.packbits(bits, axis=1)}
        arrays |= {"right": np.packbits(np.ones((6, IMAGES), bool), axis=1)}
        arrays |= {"rms": np.full(IMAGES, 0.05)}
        tensors |= {f"A/{seed}/attack/{name}": array for name, array in arrays.items()}
    cells = pd.DataFrame(rows)
    return cells, Answers(cells, tensors), fooled


PAIRS = {
    "same": [(0, 0), (1, 1), (2, 2)],
    "other": [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)],
    "all": list(product(SEEDS, SEEDS)),
}


@pytest.mark.parametrize("choice", PAIRS)
def test_rates_are_means_over_the_pairs_that_are_asked_for(measured, choice):
    cells, answers, fooled = measured
    pairs = PAIRS[choice]
    table = make_table(cells, SPEC | {"victim_seeds": choice}, answers=answers)
    for victim in "AB":
        bits = np.stack([fooled[victim, *pair] for pair in pairs])
        mean = mean_over_seeds(bits, np.ones_like(bits), *zip(*pairs, strict=True))
        shown = [view[victim].iloc[0] for view in (table.values, table.low, table.high)]
        assert shown == pytest.approx([bits.mean(), *mean.rate_interval()])
    assert table.values["attacked"].iloc[0] == IMAGES


def test_the_own_images_are_not_in_the_baseline(measured):
    cells, answers, _ = measured
    found = {
        choice: make_table(cells, SPEC | {"victim_seeds": choice}, answers=answers).values["A"][0]
        for choice in PAIRS
    }
    assert found["same"] > 0.85 > 0.65 > found["other"] > 0.55
    assert found["all"] == pytest.approx((3 * found["same"] + 6 * found["other"]) / 9)


def test_heat_maps_show_the_same_means(measured):
    cells, answers, fooled = measured
    with house_style():
        figure = transfer_heat_maps(cells, SPEC | {"victim_seeds": "other"}, "title", answers)
    shown = [text.get_text().partition("\n")[0] for text in figure.axes[0].texts]
    wanted = [100 * np.mean([fooled[v, *pair] for pair in PAIRS["other"]]) for v in "AB"]
    assert shown == [f"{rate:.1f}" for rate in wanted]


def test_noise_is_shown_whatever_the_seeds(measured):
    cells, _, _ = measured
    noise = cells[cells["seed"] == cells["victim_seed"]].assign(source="noise")
    for choice, count in (("same", 12), ("other", 18), ("all", 24)):
        assert len(chosen(pd.concat([cells, noise]), choice)) == count


def test_a_caption_says_which_seeds(measured):
    assert "seeds: 0, 1, 2. Attacked" in caption(SPEC | {"victim_seeds": "same"}, False)
    other = caption(SPEC | {"victim_seeds": "other"}, False)
    assert "seeds: 0, 1, 2; victims of every other seed than the source's. Attacked" in other
