"""Running the editing benchmark: every edit, method and seed, each kept as soon as it is done.

What a run leaves in its folder:

    settings.json METHOD.settings.json   what the run was asked for, written first
    EDIT/references.json                 what edits are compared with
    EDIT/seed-SEED/METHOD/               a training (see `dng.training.train`); METHOD.json beside it: its answer
    results.json                         everything that was measured, written last
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dng.bench.editing.contest import Contest, learn, measure_references
from dng.bench.editing.edits import check_channels
from dng.bench.editing.folder import RunFolder, answer_path
from dng.bench.editing.material import SPLITS, read_material
from dng.bench.editing.results import EditingResult, EditResult, MethodResult
from dng.bench.editing.settings import MethodSettings, check_names, method_settings
from dng.bench.table import updates_of
from dng.data import Zoo
from dng.methods.registry import METHODS
from dng.runs.on_zoo import HERE, Place
from dng.training.claim import claim
from zootool.files import write_json_atomic
from zootool.progress import Reporter, silent

RESULTS, SETTINGS = "results.json", "settings.json"


def run_editing(
    zoo: Zoo,
    preset: str,
    methods: Sequence[str],
    edits: Sequence[str],
    num_seeds: int,
    out: Path,
    *,
    place: Place = HERE,
    report: Reporter = silent,
) -> EditingResult:
    """Run the benchmark on `zoo` and leave every answer and results.json in `out`; finished parts are kept.

    Raises UsageError for unknown methods, presets and edits, for what the zoo's images don't allow, and for another run
    in `out`; and what `read_material` raises.
    """
    check_names(preset, methods, edits)
    material = read_material(zoo, place)
    for edit in edits:
        check_channels(edit, material.canvas.channels)
    settings = {name: method_settings(name, preset, material) for name in methods}
    claim(out / SETTINGS, {"zoo_id": zoo.id, "preset": preset})
    for name in methods:
        claim(out / f"{name}.{SETTINGS}", asdict(settings[name]) | {"revision": METHODS[name].revision})
    folder = RunFolder(out)
    contests = [
        Contest(material, name, settings[name], edit, seed, folder.training(edit, name, seed), report)
        for edit in edits
        for name in methods
        for seed in range(num_seeds)
    ]
    trained = [_settle(contest) for contest in contests]
    for edit in edits:
        if not folder.references_path(edit).exists():
            write_json_atomic(folder.references_path(edit), asdict(measure_references(material, edit)))
    result = EditingResult(
        zoo_id=zoo.id,
        zoo_name=zoo.info.name,
        preset=preset,
        seeds=num_seeds,
        networks={split: material.count(split) for split in SPLITS},
        edits=tuple(_edit_result(folder, edit, settings, num_seeds) for edit in edits),
        skipped=not any(trained),
    )
    write_json_atomic(out / RESULTS, asdict(result))
    return result


def _settle(contest: Contest) -> bool:
    """Learn and keep the answer, where there is none yet; whether there was none."""
    path = answer_path(contest.run_dir)
    if path.exists():
        return False
    write_json_atomic(path, asdict(learn(contest)))
    return True


def _edit_result(folder: RunFolder, edit: str, methods: dict[str, MethodSettings], num_seeds: int) -> EditResult:
    references = folder.references(edit)
    results = tuple(_method_result(folder, edit, name, settings, num_seeds) for name, settings in methods.items())
    return EditResult(edit, references.no_edit.mse, references.edited_rendering.mse, results)


def _method_result(folder: RunFolder, edit: str, method: str, settings: MethodSettings, num_seeds: int) -> MethodResult:
    answers = [folder.answer(edit, method, seed) for seed in range(num_seeds)]
    return MethodResult(
        method=method,
        test_mse=tuple(answer.test.mse for answer in answers),
        validation_mse=tuple(answer.validation_mse for answer in answers),
        best_steps=tuple(answer.best_step for answer in answers),
        num_parameters=answers[0].num_parameters,
        seconds=sum(answer.seconds for answer in answers),
        updates=updates_of(settings.training),
    )
