"""The editing benchmark's tables, figures and page."""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from dng.bench.editing.folder import RunFolder
from dng.bench.editing.methods import LABELS, PREDICTORS
from dng.bench.editing.results import EditingResult, EditResult, MethodResult, Pictures
from dng.bench.figures import Picture, from_pixels, gallery, png_bytes
from dng.bench.page import Page, ReportFigure, Section, report_figure
from dng.bench.table import Table, spread
from zootool.files import write_bytes_atomic

_HEADER = ("method", "parameters", "updates", "test MSE", "of no edit", "validation MSE")
_NO_EDIT, _EDITED = "no edit", "edit of the rendering"


def results_tables(result: EditingResult) -> tuple[Table, ...]:
    """For each edit a table of the editors of weights, and where there are any, one of the predictors of images."""
    return tuple(table for found in result.edits for table in _tables(found, result.seeds))


def write_report(result: EditingResult, out: Path) -> Path:
    """Write table.md, a figure EDIT.png per edit, and report.html into the run's folder; returns the page's path."""
    tables = "\n".join(table.markdown() for table in results_tables(result))
    write_bytes_atomic(out / "table.md", tables.encode("utf-8"))
    sections: list[Section] = []
    for found in result.edits:
        figure = examples_figure(found, RunFolder(out))
        write_bytes_atomic(out / f"{found.edit}.png", png_bytes(figure, dpi=150))
        sections += _sections(found, result.seeds, report_figure(figure, f"{found.edit}: the first test networks"))
    counts = result.networks
    Page(
        title=f"Editing INRs: {result.zoo_name}",
        subtitle=f"{counts['train']:,} SIRENs to learn from, {counts['validation']:,} to pick by, {counts['test']:,} "
        "to be tested on.",
        numbers=tuple(_number(found) for found in result.edits),
        notes=(),
        sections=tuple(sections),
        facts=_facts(result),
    ).write(out / "report.html")
    return out / "report.html"


def examples_figure(found: EditResult, folder: RunFolder) -> Figure:
    """The first test networks: originals, targets, what is there without a method, and every method's edits."""
    references = folder.references(found.edit)
    rows = {
        "original": references.originals,
        "target": references.targets,
        _NO_EDIT: references.no_edit.examples,
        _EDITED: references.edited_rendering.examples,
    }
    for method in found.methods:
        rows[LABELS[method.method]] = folder.answer(found.edit, method.method, 0).test.examples
    drawn = {name: _drawn(pictures) for name, pictures in rows.items()}
    return gallery(drawn, [f"row {row}" for row in references.rows])


def _tables(found: EditResult, seeds: int) -> list[Table]:
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    reference_rows = (_reference(_NO_EDIT, found.no_edit, found), _reference(_EDITED, found.edited_rendering, found))
    editors = tuple(_row(method, found) for method in found.methods if method.method not in PREDICTORS)
    tables = [Table(
        f"{found.edit}: test MSE of edited SIRENs in [-1, 1], {over}", _HEADER, (*reference_rows, *editors),
        "'of no edit' compares with the unedited SIRENs. The edit of the rendering knows the operation, but not the "
        "source image: what remains is the error of the SIRENs themselves.",
    )]  # fmt: skip
    predictors = tuple(_row(method, found) for method in found.methods if method.method in PREDICTORS)
    if predictors:
        tables.append(Table(
            f"{found.edit}: test MSE of edited images predicted from weights, {over}", _HEADER, predictors,
            "No SIREN is edited: a decoder paints the image, so this is another task than the table above.",
        ))  # fmt: skip
    return tables


def _row(method: MethodResult, found: EditResult) -> tuple[str, ...]:
    relative = [mse / found.no_edit for mse in method.test_mse] if found.no_edit else []
    return (
        LABELS[method.method], f"{method.num_parameters:,}", method.updates, spread(method.test_mse, 4),
        spread(relative, 3) if relative else "-",
        spread(method.validation_mse, 4),
    )  # fmt: skip


def _reference(name: str, mse: float, found: EditResult) -> tuple[str, ...]:
    return (name, "", "", f"{mse:.4f}", f"{mse / found.no_edit:.3f}" if found.no_edit else "-", "")


def _sections(found: EditResult, seeds: int, figure: ReportFigure) -> list[Section]:
    text = (
        "A method is given the weights of a SIREN and changes them; what the changed SIREN renders is compared with "
        "the edited source image. Validation picks the step, the test split is read once."
    )
    titles = (f"Editing weights: {found.edit}", f"Predicting the image: {found.edit}")
    texts = (text, "The same pictures from the same weights, but painted by a decoder instead of rendered by a SIREN.")
    figures = ((figure,), ())
    return [Section(*part) for part in zip(titles, texts, figures, _tables(found, seeds), strict=False)]


def _number(found: EditResult) -> tuple[str, str]:
    editors = [method for method in found.methods if method.method not in PREDICTORS]
    if not editors:
        return f"{found.no_edit:.4f}", f"test MSE of no edit, {found.edit}"
    # By validation: the lowest of several test errors would be too low to be expected again.
    best = min(editors, key=lambda method: fmean(method.validation_mse))
    label = LABELS[best.method] + ", best on validation" * (len(editors) > 1)
    return f"{fmean(best.test_mse):.4f}", f"test MSE, {found.edit}: {label} (no edit {found.no_edit:.4f})"


def _drawn(pictures: Pictures) -> list[Picture]:
    return [from_pixels(pixels) for pixels in pictures.pixels()]


def _facts(result: EditingResult) -> dict[str, str]:
    methods = [method for found in result.edits for method in found.methods]
    names = ",".join(dict.fromkeys(method.method for method in methods))
    edits = ",".join(found.edit for found in result.edits)
    return {
        "command": f"zoo bench editing --zoo {result.zoo_name}.zoo --preset {result.preset} --model {names} "
        f"--edit {edits} --seeds {result.seeds}",
        "zoo id": result.zoo_id,
        "seconds": f"{sum(method.seconds for method in methods):.0f} in the calls that finished the trainings",
    }
