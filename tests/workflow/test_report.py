"""The report as a reader sees it: in Chromium, opened from disk, without a network."""

import csv
import json
import re
from shutil import which

import pytest
from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.support import wait
from texts import TEXTS

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
DRIVER = which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Chromium and its chromedriver on PATH"
)

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,900",
]
MARKUP = re.compile(r"\{\{|\}\}|\{%|``|\*\*|`_|:\w+:`|undefined|\bNone\b|\bnan\b")
# The image of the open result is loaded, and can be seen from its left upper corner.
PAPER = "Szegedy et al. 2013"
IMAGE_IS_SHOWN = """
const image = document.querySelector("#app div.grow > div > img");
if (!image || image.src != results[arguments[0]].data_uri) return false;
const place = image.getBoundingClientRect();
return image.complete && image.naturalWidth > 0 && place.width > 100
    && place.top >= 0 && place.left >= document.querySelector("nav").offsetWidth;
"""


class Reader:
    """Walks through a report by clicks and notes what it shows."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads

    def open(self, page):
        """Open a report from disk and return where it says that its results are."""
        self.driver.get(page.as_uri())
        self.wait_for("nav ul a")
        # A sliding panel would move away from under the pointer.
        self.run(
            "const style = document.head.appendChild(document.createElement('style'));"
            "style.textContent = '* {transition: none !important}';"
        )
        return self.run("return categories")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def until(self, condition):
        """Wait until something is so; meanwhile the page may lack it or be changing."""
        passing = (exceptions.WebDriverException, IndexError)
        patience = wait.WebDriverWait(self.driver, 20, 0.05, passing)
        return patience.until(lambda _: condition())

    def wait_for(self, selector):
        """Wait for elements and return them."""
        return self.until(lambda: self.find(selector))

    def click(self, path, number=0):
        """Click on one of the elements with an XPath."""
        self.until(lambda: [self.driver.find_elements("xpath", path)[number].click()])

    def choose(self, *entries):
        """Click through the menu, from its top."""
        self.click("//nav//nav//a")
        for entry in entries:
            self.click(f"//nav//ul//a[normalize-space() = '{entry}']")

    def look_at(self, line):
        """Click on the eye of a line in the list of results."""
        self.click("//nav//table//td[last()]//a[1]", line)

    def ask_about(self, line):
        """Click on the i of a line in the list of results."""
        self.click("//nav//table//td[last()]//a[2]", line)

    def caption(self):
        """Return the text of the caption in sight."""
        (caption,) = self.wait_for("nav .prose")
        assert caption.is_displayed() and len(caption.text) > 80
        assert not self.find(".system-message, .problematic")
        return caption.get_property("innerText")  # of `text` the driver leaves out marks of writing

    def table(self):
        """Return the first table of the open page, a list of rows of lists of texts."""
        (frame,) = self.wait_for("iframe")
        self.driver.switch_to.frame(frame)
        self.wait_for("tbody tr")
        rows = self.run(
            "return [...document.querySelector('table').rows]"
            ".map(row => [...row.cells].map(cell => cell.innerText.replaceAll('\\n', ' ')))"
        )
        self.driver.switch_to.default_content()
        return rows

    def saved(self, name):
        """Return a file that was saved by a click."""
        path = self.downloads / name
        self.until(path.exists)
        return path.read_text()


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(tmp_path_factory, downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def reader(driver, downloads):
    """A reader; afterwards nothing may have been asked of a network or gone wrong in the page."""
    driver.get("about:blank")
    driver.get_log("performance")  # forget what the browser's own first page asked for
    yield Reader(driver, downloads)
    errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {
        message["params"]["request"]["url"].partition(":")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert "file" in asked and asked <= {"file", "data", "blob"}


def first_column(path):
    with open(path, newline="") as stream:
        return [row[0] for row in csv.reader(stream)][1:]


def test_general_pages(digits, reader):
    """What the report says about itself: description, graph of the rules, run times."""
    reader.open(digits.path / "results/digits/report.html")
    (text,) = reader.wait_for("div.grow .prose")
    assert "Blind spots of neural networks" in text.text
    assert not MARKUP.search(text.text), text.text
    assert text.location["y"] >= 0  # the beginning can be read
    reader.wait_for("#rulegraph canvas")
    reader.choose("Statistics")
    reader.until(lambda: len(reader.find("#runtimes canvas, #timeline canvas")) == 2)
    reader.choose("About")
    reader.choose("Workflow")


def test_every_result_opens(digits, reader):
    """Every category, every figure loaded, every table with its rows, every caption."""
    results = digits.path / "results/digits"
    categories = reader.open(results / "report.html")
    assert {name: set(below) for name, below in categories.items()} == {
        PAPER: {"Tables", "Transfer", "Error curves", "Distortions", "Examples", "Data"},
        "Checks": {"Other"},
    }
    opened = []
    for category, below in categories.items():
        for subcategory, paths in below.items():
            place = (category, subcategory) if len(below) > 1 else (category,)
            for line in range(len(paths)):
                reader.choose(*place)
                reader.ask_about(line)
                caption = reader.caption()
                assert not MARKUP.search(caption), caption
                path = reader.run("return app.state.resultPath")
                reader.choose(*place)
                reader.look_at(line)
                if subcategory not in ("Tables", "Data", "Other"):
                    reader.until(lambda path=path: reader.run(IMAGE_IS_SHOWN, path))
                elif subcategory == "Data":
                    name = path.rpartition("/")[2]
                    assert reader.saved(name) == (digits.path / path).read_text()
                else:
                    shown = [row[0] for row in reader.table()][1:]
                    assert shown == first_column((digits.path / path).with_suffix(".csv"))
                opened.append(path)
    published = [*results.glob("tables/*.html"), *results.glob("figures/*/*.[sp][vn]g")]
    published += [results / "engines.html", results / "transfer.csv"]
    assert sorted(opened) == sorted(str(path.relative_to(digits.path)) for path in published)


def test_any_texts(finished, reader):
    """As written, on the front page, in captions and tables; and no script among them has run.

    There is one grid of each kind: labels that split the results into halves would become a switch
    between two views of one.
    """
    labels, said = TEXTS[:3], [" ".join(TEXTS[3 + place :: 6]) for place in range(6)]

    def write(config):
        for number, model in enumerate(config["models"].values()):
            model |= {"label": labels[number], "description": said[number]}
        config["experiments"]["pairs"]["title"] = said[3]
        for number, table in enumerate(config["tables"].values(), 4):
            table["caption"] = said[number]

    finished.edit_config(write)
    page = finished.path / "report.html"
    finished.make()
    finished.make("--report", str(page))
    categories = reader.open(page)
    (front,) = reader.wait_for("div.grow .prose")
    shown = front.get_property("innerText")
    assert {text for text in (*labels, *said[:4]) if text not in shown} == set()
    captions = []
    for category, below in categories.items():
        for subcategory, paths in below.items():
            place = (category, subcategory) if len(below) > 1 else (category,)
            for line, path in enumerate(paths):
                reader.choose(*place)
                reader.ask_about(line)
                captions.append(reader.caption())
                if subcategory == "Examples":
                    reader.choose(*place)
                    reader.look_at(line)
                    reader.until(lambda path=path: reader.run(IMAGE_IS_SHOWN, path))
    for text, count in ((labels[0], 1), (said[3], 3), (said[4], 1), (said[5], 1)):
        assert sum(text in caption for caption in captions) == count, text
    reader.choose(PAPER, "Tables")
    reader.look_at(0)
    assert [row[:2] for row in reader.table()][1:] == [
        list(p) for p in zip(labels, said, strict=False)
    ]
    assert reader.driver.title == "Snakemake Report"


@pytest.mark.mnist
def test_printed_numbers_stand_beside_ours(mnist_in_small, reader):
    page = mnist_in_small.path / "report.html"
    mnist_in_small.make("results/tiny/tables/summary.html", "--report", str(page))
    reader.open(page)
    reader.choose("Results", "Tables")  # there is one category
    reader.look_at(0)
    heading, first, *_ = reader.table()
    shown = dict(zip(heading, first, strict=True))
    assert shown["model"] == "softmax1"
    assert re.fullmatch(r"\d+\.\d\d % \[.*\] \(print 7\.40 %\)", shown["test error"])
