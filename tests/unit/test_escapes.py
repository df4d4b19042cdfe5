"""Every text in every place: it stands there as written, and as text."""

import csv
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import docutils.core
import jinja2
import numpy as np
import pandas as pd
import pytest
from snakemake.utils import QuotedFormatter
from texts import TEXTS

from blindspots.artifacts import canonical_json
from blindspots.escapes import escape_latex, escape_markdown, escape_rst, printable
from blindspots.experiments.transfer.figures import distortion_distributions
from blindspots.study.study import Study
from blindspots.summary.page import page
from blindspots.summary.style import house_style

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = ROOT / "src/blindspots/experiments/transfer/captions"


class Reader(HTMLParser):
    """Reads the texts of a page, and the names of its elements."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.elements = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def rendered(source, allowed=frozenset()):
    """Return the text of reStructuredText, in which docutils may have nothing to object to."""
    settings = {"report_level": 1, "halt_level": 1, "warning_stream": False}
    html = docutils.core.publish_parts(source, writer="html", settings_overrides=settings)["body"]
    reader = Reader(html)
    assert not reader.elements & ({"a", "img", "script", "h1", "ol", "dl"} - allowed)
    return "".join(reader.texts)


def in_rst(text):
    escaped = escape_rst(text)
    source = f"**{escaped}.** More\n\n- *{escaped}* (``x``): y\n- {escaped}\n\n{escaped}\n"
    first, second, *others = filter(None, rendered(source).splitlines())
    assert first == f"{text}. More" and second == f"{text} (x): y" and len(others) == 2
    return others[0] if others[0] == others[1] else others


def in_html(text):
    html = page([(text, text, pd.DataFrame({text: [[text, text]]}))])
    reader = Reader(html)
    assert reader.elements == {
        *("html", "meta", "title", "style", "h1", "p", "table", "thead", "tbody", "tr", "th"),
        *("td", "small"),
    }
    assert reader.texts.count(text) == 6
    return text


def in_markdown(text):
    """What is markup stands behind a backslash, which Markdown removes before punctuation."""
    escaped = escape_markdown(text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", escaped)
    assert not re.search(r"[\\`*_\[\]<>&|~$]", bare)
    assert not re.match(r"([-+#]|\d+[.)])(\s|#|$)", escaped)
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped)


def in_latex(text):
    """Braces are paired, and what is left of special characters begins a command."""
    escaped = escape_latex(text)
    bare = re.sub(r"\\([%_&#${}]|text\w+(\{\}|\{\\char34\})|char34)", "", escaped)
    assert not re.search(r"[\\%_&#$^~<>|\"`]|--|''|,,", bare)
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\[{}]", "", escaped)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    return text


def in_csv(text):
    table = pd.DataFrame({text: [text], "other": [1.0]}).to_csv(index=False)
    (heading, row) = csv.reader(io.StringIO(table))
    assert heading[0] == text and len(row) == 2
    return row[0]


def in_shell(text):
    spec = canonical_json({"label": text, text: [text]})
    command = QuotedFormatter().format("printf %s {spec:q}", spec=spec)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    return json.loads(done.stdout)["label"]


def in_script(text):
    """As Snakemake embeds it: JSON of JSON between the tags of a script."""
    embedded = json.dumps({"params": f"spec={canonical_json([text])}"})
    assert "<" not in embedded and embedded.isascii()
    return json.loads(json.loads(embedded)["params"].removeprefix("spec="))[0]


def on_a_terminal(text):
    shown = printable(f"{text}\x1b[2J\r\n\x9b\u202e")
    assert shown.isprintable() and shown.endswith(r"\x1b[2J\r\n\x9b\u202e")
    return text


PLACES = [in_rst, in_html, in_markdown, in_latex, in_csv, in_shell, in_script, on_a_terminal]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_in_a_place(text, place):
    assert place(text) == text


def test_texts_in_a_figure():
    """Drawn as outlines, with the text in a comment; mathtext would have lost its dollars."""
    lengths = {text: [(0, np.arange(5), np.linspace(0.1, 0.2, 5))] for text in TEXTS}
    with house_style():
        figure = distortion_distributions(lengths, "title")
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    ElementTree.fromstring(svg)
    comments = [unescape(text) for text in re.findall("<!-- (.*?) -->", svg)]
    assert {text.replace("--", "- -").replace("- --", "- - -") for text in TEXTS} <= set(comments)


def captions(study, wildcards):
    """Return the text of each caption as the report shows it."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as Snakemake's
    job = SimpleNamespace(config={"captions": study.captions()}, wildcards=wildcards)
    names = ["tabulate", "plot_transfer", "plot_error_curves", "plot_distortions"]
    names += ["plot_adversarial_examples", "collect_transfer"]
    paths = [ROOT / "workflow/report/workflow.rst", *(CAPTIONS / f"{name}.rst" for name in names)]
    return {
        path.stem: rendered(
            environment.from_string(path.read_text()).render(snakemake=job),
            allowed={"h1", "a"} if path.stem == "workflow" else set(),
        ).strip()
        for path in paths
    }


@pytest.mark.skipif(which("pdflatex") is None, reason="needs pdflatex, and booktabs")
def test_latex_that_compiles(tmp_path):
    """In a caption, a heading, the first and the last cell of a row, one after another."""
    texts = [escape_latex(text) for text in TEXTS if max(text) <= "\xff"]
    rows = "\n".join(f"{text} & {text} \\\\" for text in texts)
    (tmp_path / "texts.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\begin{table}\n"
        f"\\caption{{{' '.join(texts)}}}\n\\begin{{tabular}}{{lr}}\n\\toprule\n{rows}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "texts.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:]


LONG = "ConvNet with batch normalisation and dropout after each layer"


@pytest.mark.parametrize("text", [*TEXTS, ".", LONG], ids=ascii)
def test_texts_in_captions(config, schema, reference, text):
    """Of the templates of the report, with the texts of a configuration."""
    label = text[:64]
    config["models"]["softmax1"] |= {"label": label, "description": text}
    config["experiments"]["cross_model"]["title"] = text
    config["tables"]["table1"]["caption"] = text
    wildcards = {"experiment": "cross_model", "table": "table1", "grid": "figure7a"}
    pages = captions(Study(config, schema, reference, []), wildcards)
    ended = text.rstrip(".")
    assert pages["tabulate"].startswith(f"{ended}." if ended else "Error of each model")
    for name in ("plot_transfer", "plot_error_curves", "plot_distortions"):
        assert pages[name].startswith(f"{ended or 'cross_model'}. ")
    assert f"for {label}: odd" in pages["plot_adversarial_examples"]
    assert f"\n{label}: {text} (split" in pages["workflow"]
    assert f"\n{ended or 'cross_model'} (cross_model): method" in pages["workflow"]


def test_missing_texts_in_captions(config, schema, reference, tmp_path):
    """Ids and architectures stand for them; they may hold what reads as markup, too."""
    (tmp_path / "nets.py").write_text("")
    config["models"]["net_"] = {"architecture": "nets:make_", "split": "P1"}
    common = {"attack": "test-random", "sources": ["net_"]}
    del config["run"]
    config["experiments"] = {
        "pairs_": common,
        "more_": {**common, "title": ""},
        "other_": {**common, "title": " . "},
    }
    config["tables"] = {"t": {"kind": "models", "experiment": "pairs_", "caption": " "}}
    config["figures"]["examples"] = {"g": {"attack": "test-random", "source": "net_"}}
    study = Study(config, schema, reference, [str(tmp_path)])
    pages = captions(study, {"experiment": "pairs_", "table": "t", "grid": "g"})
    assert pages["tabulate"].startswith("Error of each model")
    assert pages["plot_transfer"].startswith("pairs_. Error")
    assert "for net_: odd" in pages["plot_adversarial_examples"]
    assert "\nnet_: nets:make_ (split" in pages["workflow"]
    for name in ("pairs_", "more_", "other_"):
        assert f"\n{name} ({name}): method" in pages["workflow"]
