"""The blocks of docs/extending.md, for the tests that run them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POINTS = ("A kind", "A maker", "A source", "A variant")
ALONE = "By configuration alone"


@dataclass(frozen=True)
class Snippet:
    """A block: the section that it stands in, its language, the file that it is or changes."""

    section: str
    language: str
    path: str
    text: str

    def apply(self, folder):
        """Write the file below a folder, or make the changes in it."""
        target = folder / self.path
        if self.language != "diff":
            target.parent.mkdir(parents=True, exist_ok=True)
            assert not target.exists(), f"{self.path} is no new file"
            target.write_text(self.text)
            return
        content = target.read_text()
        for hunk in self.text.split("@@\n"):
            old, new = ("".join(_lines(hunk, signs)) for signs in (" -", " +"))
            assert content.count(old) == 1, f"{self.path}: {content.count(old)} times\n{old}"
            content = content.replace(old, new)
        target.write_text(content)


def snippets():
    """Return all blocks, in their order; those of commands have no language and are left out."""
    text = (ROOT / "docs/extending.md").read_text()
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        section = part.partition("\n")[0]
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE):
            first, _, rest = block.partition("\n")
            place = re.fullmatch(r"# (\S+\.\w+)", first)
            found.append(
                Snippet(section, language, place[1], rest)
                if place
                else Snippet(section, language, "", block)
            )
    return found


def _lines(hunk, signs):
    """Return the lines of a hunk that begin with one of two signs, without it."""
    for line in hunk.splitlines(keepends=True):
        sign, rest = (line[0], line[1:]) if line.strip() else (" ", line)
        assert sign in " +-", line
        if sign in signs:
            yield rest
