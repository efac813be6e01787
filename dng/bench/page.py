"""A benchmark's report as one HTML file that holds its pictures in itself."""

from dataclasses import dataclass
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from dng.bench.figures import data_uri
from dng.bench.table import Table
from zootool.files import write_bytes_atomic


@dataclass(frozen=True)
class ReportFigure:
    """A picture as a data URI, and what it shows in words."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, then figures and a table where there are any."""

    title: str
    text: str
    figures: tuple[ReportFigure, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Page:
    """A report: the numbers that matter as (value, name), warnings, sections, and how to repeat it."""

    title: str
    subtitle: str
    numbers: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: dict[str, str]

    def render(self) -> str:
        """The page as HTML."""
        # Names and labels in a zoo come from outside: everything is escaped, and undefined names are our bugs.
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("dng.bench", "."), autoescape=True, undefined=jinja2.StrictUndefined
        )
        return environment.get_template("page.html.j2").render(page=self)

    def write(self, path: Path) -> None:
        """Write the page to `path`."""
        write_bytes_atomic(path, self.render().encode("utf-8"))


def report_figure(figure: Figure, caption: str) -> ReportFigure:
    """A matplotlib figure as a part of a page."""
    return ReportFigure(data_uri(figure), caption)
