"""Grids of images: in colour, with the names of classes, on a page whatever the data set."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from blindspots.experiments.transfer.grids import (
    HEAD,
    HIGHEST,
    Pair,
    chosen,
    example_grid,
    page_of,
)
from blindspots.summary.fitting import fitted, text_width
from blindspots.summary.numbers import digits, distortion
from blindspots.summary.pictures import SMALL
from blindspots.summary.style import FRAME, house_style

LONG = "Mediterranean-hippopotamus and a_very_long_name WWWWWWWWWWWWWWWW"


def facts(shape=(3, 20, 30), classes=3, names=True):
    """Facts of synthetic data, whose longest name would cross the page."""
    known = {"shape": list(shape), "classes": classes}
    return known | ({"names": [f"{n} {LONG}" for n in range(classes)]} if names else {})


def labels_of(classes, each=5):
    return np.tile(np.arange(classes), each)


def grid(known, answers=True, labels=None, lost=(), eligible=None):
    """Draw a grid of seeded images; return the figure, its page and the rows of positions."""
    labels = labels_of(known["classes"]) if labels is None else labels
    page = page_of(known, answers)
    rows = chosen(page, labels, known["classes"], eligible)
    random = np.random.default_rng(0)
    images = random.random((len(labels), *known["shape"]))

    def pair(position):
        noisy = images[position] + random.normal(0, 1, known["shape"])
        answer = {"answer": 0, "rms": 0.0012, "lost": position in lost} if answers else {}
        return Pair(images[position], noisy, int(labels[position]), **answer)

    with house_style():
        return example_grid(page, [[pair(i) for i in row] for row in rows], "title"), page, rows


def drawn(figure):
    """Return the arrays that a figure shows, place by place, None for an empty one."""
    return [ax.images[0].get_array() if ax.images else None for ax in figure.axes]


SHAPES = [
    (1, 8, 8),
    (1, 28, 28),
    (3, 20, 30),
    (3, 60, 20),
    (3, 32, 32),
    (3, 224, 224),
    (3, 90, 300),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [2, 10, 12, 40, 1000])
@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("answers", [True, False])
def test_whatever_the_data_the_grid_fits_a_page(shape, classes, names, answers):
    page = page_of(facts(shape, classes, names), answers)
    rows = chosen(page, labels_of(classes), classes)
    assert 1 <= len(rows) <= page.rows
    assert page.rows * page.height + HEAD <= HIGHEST + 1e-6
    assert 2 * page.side * page.pairs <= 6
    assert max(map(len, rows)) <= page.pairs
    shown = labels_of(classes)[np.concatenate(rows)]
    assert np.array_equal(shown, np.sort(shown))
    assert len(set(shown)) == min(classes, page.rows * page.pairs)
    assert page.by_class or not names or page.lines >= 1


def test_ten_digits_are_laid_out_as_in_print():
    page = page_of({"shape": [1, 28, 28], "classes": 10}, answers=True)
    assert (page.by_class, page.pairs, page.side, page.height) == (True, 4, 0.75, 0.88)
    figure, *_ = grid({"shape": [1, 28, 28], "classes": 10})
    assert figure.get_size_inches() == pytest.approx((6.4, 9.4))
    assert [ax.get_ylabel() for ax in figure.axes[::8]] == [str(digit) for digit in range(10)]
    assert figure.axes[1].get_xlabel() == "→0, RMS 0.0012"
    assert figure.axes[0].get_xlabel() == ""


def test_colour_is_drawn_in_colour_and_clipped():
    figure, *_ = grid(facts((3, 20, 30)))
    for image in drawn(figure):
        assert image.shape == (20, 30, 3)
        assert image.min() >= 0 and image.max() <= 1
    assert drawn(figure)[1].min() == 0 and drawn(figure)[1].max() == 1


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_drawn_in_grey(channels):
    figure, _, rows = grid(facts((channels, 6, 6)), labels=np.arange(3))
    images = np.random.default_rng(0).random((3, channels, 6, 6))
    for place, (position,) in enumerate(rows):
        np.testing.assert_allclose(drawn(figure)[2 * place], images[position].mean(0))
    assert figure.axes[0].images[0].cmap.name == "gray"


def test_few_classes_have_a_row_each_even_without_an_image():
    labels = np.array([0, 0, 2])
    figure, page, rows = grid(facts(classes=3), labels=labels)
    assert page.by_class and [list(row) for row in rows] == [[0, 1], [], [2]]
    assert [image is not None for image in drawn(figure)] == [
        *(True, True, True, True),
        *(False, False, False, False),
        *(True, True, False, False),
    ]
    assert figure.axes[4].get_ylabel().startswith("1\nMediterranean\n")


def test_of_many_classes_those_with_an_image_are_shown_by_name():
    """Also where only a few of a thousand have one: as many of each as there is room for."""
    labels = np.repeat([5, 7, 900], [9, 1, 2])
    known = facts((3, 32, 32), classes=1000)
    figure, page, rows = grid(known, labels=labels)
    assert not page.by_class
    assert [list(row) for row in rows] == [[0, 1, 2, 3], [9, 10, 11]]
    below = [ax.get_xlabel() for ax in figure.axes]
    assert below[0].startswith("5 Medi") and below[8].startswith("7 Medi")
    assert all(text.startswith("→0 Medi") for text in below[1:14:2])
    assert all(text.endswith("…\nRMS 0.0012") for text in below[1:14:2])
    assert not any(ax.get_ylabel() for ax in figure.axes)


def test_only_eligible_images_are_shown():
    eligible = np.arange(15) % 2 == 0
    _, _, rows = grid(facts(classes=3), eligible=eligible)
    assert all(eligible[position] for row in rows for position in row)
    _, _, rows = grid(facts(classes=3), eligible=np.zeros(15, bool))
    assert [list(row) for row in rows] == [[], [], []]


def test_a_grid_without_any_image_can_be_drawn():
    figure, _, rows = grid(facts((3, 32, 32), classes=1000), labels=np.zeros(0, int))
    assert [list(row) for row in rows] == [[]] and drawn(figure) == [None, None]


def test_only_what_is_lost_is_framed():
    figure, *_ = grid(facts(classes=3), labels=np.array([0, 1, 1]), lost=[2])
    seen = [ax.spines["left"].get_visible() for ax in figure.axes]
    assert [place for place, visible in enumerate(seen) if visible] == [7]
    assert figure.axes[7].spines["left"].get_edgecolor() == to_rgba(FRAME)
    assert figure.axes[7].get_xlabel().startswith("lost: 0 ")


@pytest.mark.parametrize(
    "known", [facts(classes=3), facts(classes=40), facts((3, 32, 32), 10), facts((3, 224, 224), 40)]
)
def test_nothing_overlaps_and_nothing_is_cut_off(known):
    """Measured on the drawn figure: every text within it, none on another or on an image."""
    figure, *_ = grid(known)
    figure.set_dpi(100)
    figure.draw_without_rendering()
    texts = [ax.xaxis.label for ax in figure.axes] + [ax.yaxis.label for ax in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    pictures = [ax.images[0].get_window_extent() for ax in figure.axes if ax.images]
    width, height = figure.get_size_inches() * 100
    assert boxes
    for number, box in enumerate(boxes):
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1
        for other in [*boxes[number + 1 :], *pictures]:
            apart = [box.x1 - other.x0, other.x1 - box.x0, box.y1 - other.y0, other.y1 - box.y0]
            assert min(apart) < 1.5


def test_small_pixels_are_sharp_and_photographs_are_smoothed():
    small, *_ = grid(facts((3, SMALL, SMALL)))
    large, *_ = grid(facts((3, 224, 224)))
    assert {ax.images[0].get_interpolation() for ax in small.axes if ax.images} == {"nearest"}
    assert {ax.images[0].get_interpolation() for ax in large.axes if ax.images} == {"antialiased"}


@pytest.mark.parametrize("text", ["cat", "great_white_shark", LONG, "W" * 200, "a b " * 90, "ß→…"])
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_texts_are_no_wider_than_their_place(text, lines):
    shown = fitted(text, 54, 6, lines)
    parts = shown.split("\n")
    assert len(parts) <= lines
    assert all(text_width(part, 6) <= 54 for part in parts)
    if "…" not in shown:
        assert shown.replace("\n", "").replace(" ", "") == text.replace(" ", "")
    if text_width(text.strip(), 6) <= 54:
        assert shown == text.strip()


def test_names_are_broken_where_words_end():
    assert fitted("great white shark", 45, 6, 2) == "great white\nshark"
    assert fitted("great_white_shark", 45, 6, 2) == "great_white_\nshark"
    assert fitted("great white shark", 40, 6, 1) == "great whit…"


@pytest.mark.parametrize(
    ("rms", "decimals", "text"),
    [
        (0.0523, 3, "0.052"),
        (0.01, 3, "0.010"),
        (0.0012, 3, "0.0012"),
        (0.002, 3, "0.0020"),
        (0.000049, 3, "0.000049"),
        (0.0523, 4, "0.0523"),
        (0.0004, 4, "0.00040"),
        (0.0, 3, "0.000"),
        (1.5, 3, "1.500"),
    ],
)
def test_small_distortions_show_two_digits(rms, decimals, text):
    assert distortion(rms, decimals) == text


@pytest.mark.parametrize(
    ("value", "count", "text"),
    [
        (103.4, 2, "100"),
        (1234, 3, "1230"),
        (0.000664, 2, "0.00066"),
        (74.2, 2, "74"),
        (0.2, 3, "0.2"),
    ],
)
def test_large_numbers_have_no_exponent(value, count, text):
    assert digits(value, count) == text
