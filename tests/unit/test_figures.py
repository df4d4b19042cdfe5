"""What the figures say of one seed and of several."""

import numpy as np
import pandas as pd
import pytest

from blindspots.evaluation.seeds import mean_over_seeds
from blindspots.experiments.transfer.answers import Answers
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.experiments.transfer.figures import (
    distortion_distributions,
    error_curves,
    transfer_heat_maps,
)
from blindspots.summary.style import house_style

LEVELS = (0.1, 0.2)
VARIANTS = {
    "A": (("as_found", 0.05), *(("amplified", level) for level in LEVELS)),
    "noise": (("clean", 0.0), *(("gaussian", level) for level in LEVELS)),
}
SPEC = {
    "attack": "attack",
    "pool": "test",
    "sources": ["A"],
    "victims": ["A", "B"],
    "victim_seeds": "same",
    "labels": {"A": "A'", "B": "B"},
    "amplify": list(LEVELS),
    "noise": list(LEVELS),
}


@pytest.fixture(params=[1, 2, 3, 5])
def study(request):
    """Cells, specification, answers, and the interval of source A on victim B as found."""
    generator = np.random.default_rng(1)
    seeds, images = range(request.param), 200
    rows, tensors, found = [], {}, []
    for source, attack in (("A", "attack"), ("noise", "test")):
        for seed in seeds:
            fooled = []
            for variant, rms in VARIANTS[source]:
                for victim in "AB":
                    fooled.append(generator.random(images) < 0.3 + 0.02 * seed)
                    row = {"source": source, "victim": victim, "seed": seed}
                    row |= {"victim_seed": seed, "attack": attack}
                    row |= {"variant": variant, "rms": rms, "error": fooled[-1].mean()}
                    rows.append(dict.fromkeys(FIELDS) | row | {"low": 0.25, "high": 0.35})
            found.append(fooled[1])
            arrays = {"indices": np.arange(images), "fooled": np.packbits(fooled, axis=1)}
            arrays["right"] = np.packbits(np.ones((2, images), bool), axis=1)
            tensors |= {f"{source}/{seed}/{attack}/{name}": a for name, a in arrays.items()}
    cells, runs = pd.DataFrame(rows), np.stack(found[: len(seeds)])
    mean = mean_over_seeds(runs, np.ones_like(runs), seeds, seeds)
    return cells, SPEC | {"seeds": list(seeds)}, Answers(cells, tensors), mean


def test_heat_maps_show_the_spread_of_several_seeds(study):
    cells, spec, answers, mean = study
    with house_style():
        figure = transfer_heat_maps(cells, spec, "title", answers)
    text = figure.axes[0].texts[1].get_text()
    low, high = mean.rate_interval()
    wanted = f"{100 * mean.value:.1f}"
    if len(spec["seeds"]) >= 3:
        wanted += f"\n±{50 * (high - low):.1f}"
    assert text == wanted


def test_bands_are_intervals_over_seeds_and_images(study):
    cells, spec, answers, _ = study
    with house_style():
        figure = error_curves(cells, spec, "title", answers)
    edges = figure.axes[0].collections[1].get_paths()[0].vertices if len(spec["seeds"]) != 2 else []
    at_first = sorted({y for x, y in edges if abs(x - LEVELS[0]) < 1e-9})
    if len(spec["seeds"]) == 1:
        assert at_first == [25, 35]
    elif len(spec["seeds"]) >= 3:
        part = cells[(cells["victim"] == "B") & (cells["variant"] == "amplified")]
        low, high = answers.rate(part[part["rms"] == LEVELS[0]]).rate_interval()
        assert at_first == pytest.approx([100 * low, 100 * high])


def notes_of(figure):
    (axis,) = (child for child in figure.axes[0].child_axes)
    return [label.get_text() for label in axis.get_yticklabels()]


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_mean_distortion_is_the_mean_over_seeds(seeds):
    """Not over the images of all: a seed with more of them has no more weight."""
    sizes = [np.full(100 + 10 * seed, 0.05 + 0.01 * seed) for seed in range(seeds)]
    sizes[0][:7] = np.nan
    runs = [(seed, np.arange(len(rms)), rms) for seed, rms in enumerate(sizes)]
    with house_style():
        (note,) = notes_of(distortion_distributions({"A": runs}, "title"))
    mean = 0.05 + 0.01 * (seeds - 1) / 2
    assert note.startswith(f"mean {mean:.4f}")
    if seeds == 1:
        assert note == "mean 0.0500\n93 images, 7 failed"
    else:
        assert note.endswith(f"\n{seeds} seeds x 93 to {90 + 10 * seeds} images, 7 failed in all")
        assert ("[" in note) == (seeds > 2)


def many(count, levels):
    """Cells and specification of so many models, each source and victim, in two variants."""
    names = [f"model {number}" for number in range(count)]
    variants = [("as_found", 0.0012), *(("amplified", level) for level in levels)]
    noise = [("clean", 0.0), *(("gaussian", level) for level in levels)]
    pairs = [(s, "attack", v, each) for s in names for v in names for each in variants]
    pairs += [("noise", "test", v, each) for v in names for each in noise]
    rows = [
        dict.fromkeys(FIELDS)
        | {"source": source, "victim": victim, "seed": 0, "victim_seed": 0, "attack": attack}
        | {"variant": variant, "rms": rms, "error": 0.5, "low": 0.4, "high": 0.6}
        for source, attack, victim, (variant, rms) in pairs
    ]
    spec = SPEC | {
        "sources": names,
        "victims": names,
        "labels": dict(zip(names, names, strict=True)),
    }
    return pd.DataFrame(rows), spec | {"amplify": levels, "noise": levels, "seeds": [0]}


@pytest.mark.parametrize(("count", "levels"), [(3, 7), (12, 7), (30, 1)])
def test_figures_of_many_models_fit_a_page(count, levels):
    cells, spec = many(count, [0.1 * (1 + level) for level in range(levels)])
    with house_style():
        figures = [plot(cells, spec, "title") for plot in (transfer_heat_maps, error_curves)]
        runs = {
            name: [(0, np.arange(5), 0.001 + 0.0001 * np.arange(5))] for name in spec["sources"]
        }
        figures.append(distortion_distributions(runs, "title"))
    for figure in figures:
        width, height = figure.get_size_inches()
        assert width <= 15 and height <= 17
    assert all(text.get_fontsize() >= 4 for text in figures[0].axes[0].texts)
    assert figures[0].axes[0].get_title() == "as found\nmean RMS 0.0012"
    assert notes_of(figures[2])[0] == "mean 0.0012\n5 images"


def test_numbers_that_could_not_be_read_are_left_out():
    cells, spec = many(40, [0.1, 0.2])
    with house_style():
        figure = transfer_heat_maps(cells, spec, "title")
    assert not figure.axes[0].texts
    assert {label.get_fontsize() for label in figure.axes[0].get_yticklabels()} <= {4}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_title_of_error_curves_keeps_clear_of_the_legend(count):
    cells, spec = many(count, [0.1])
    title = "photographs, images of test, random targets, seed 0"
    with house_style():
        figure = error_curves(cells, spec, title)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    shown, entries = figure._suptitle.get_window_extent(), legend.get_window_extent()
    assert shown.x0 >= 0 and (shown.x1 <= entries.x0 or shown.y0 >= entries.y1)
    assert figure._suptitle.get_text().replace("\n", " ") == title
