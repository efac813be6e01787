"""A benchmark's tables, as Markdown and on the terminal, and its report: one HTML file with its pictures in itself."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from zootool.files import write_bytes_atomic


@dataclass(frozen=True)
class Table:
    """A caption, a header, rows of as many cells, and a note below. The first column names, the others hold numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"the row {row} doesn't fit the {len(self.header)} columns {self.header}")

    def markdown(self) -> str:
        """The table in Markdown, its caption above and its note below."""
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, rule, *self.rows)]
        note = [self.note, ""] if self.note else []
        return "\n".join([self.caption, "", *lines, "", *note])


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and what it shows in words; with a `file`, it lies beside the page under that name, too."""

    figure: Figure
    caption: str
    file: str = ""

    @property
    def uri(self) -> str:
        """The figure as a PNG that an HTML page can hold in itself."""
        return "data:image/png;base64," + base64.b64encode(self.png(110)).decode("ascii")

    def png(self, dpi: int) -> bytes:
        """The figure as a PNG; equal figures give equal bytes."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
        return buffer.getvalue()


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, then figures and a table where there are any."""

    title: str
    text: str
    figures: tuple[Drawing, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Page:
    """A report: the numbers that matter as (value, name), warnings, sections, and how to repeat it."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    facts: dict[str, str]
    numbers: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def render(self) -> str:
        """The page as HTML."""
        # Names and labels in a zoo come from outside: everything is escaped, and undefined names are our bugs.
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("dng.bench", "."), autoescape=True, undefined=jinja2.StrictUndefined
        )
        return environment.get_template("page.html.j2").render(page=self)

    def write(self, path: Path) -> None:
        """Write the page to `path`, and into its folder the figures that have files."""
        for drawing in (drawing for section in self.sections for drawing in section.figures if drawing.file):
            write_bytes_atomic(path.parent / drawing.file, drawing.png(150))
        write_bytes_atomic(path, self.render().encode("utf-8"))
