"""`zoo verify`: is a store complete, undamaged and true?"""

from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def verify(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    quick: Annotated[bool, typer.Option("--quick", help="Only the manifest, names and sizes.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Every digest, but no network is rebuilt.")] = False,
    functional: Annotated[bool, typer.Option("--functional", help="All of it, the default.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="How many networks are rebuilt.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Which networks are rebuilt.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check a store: digests, chunks, offsets, every architecture run once, a sample of networks measured again.

    Example: zoo verify digits.zoo
    """
    from zootool.errors import UsageError
    from zootool.zoo import verify as verify_store

    if quick + deep + functional > 1:
        raise UsageError("--quick, --deep and --functional exclude each other", hint="give one of them, or none")
    level = "quick" if quick else "deep" if deep else "functional"
    with progress_bars() as report:
        result = verify_store(store, level, sample=sample, seed=seed, report=report)
    if as_json:
        print_json({"path": store, "level": level, "passed": result.passed, **vars(result)})
    result.raise_problems(store)
    if not as_json:
        say(f"[green]passed[/] {shown(store)}: {result.num_networks:,} networks; checked {', '.join(result.checked)}")
        for part in result.skipped:
            say(f"[yellow]skipped[/] {shown(part)}")
