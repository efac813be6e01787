"""`zoo publish` and `zoo pull`: a store put where others can read it, and one fetched from there."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import JsonOption, answer, progress_bars, shown

if TYPE_CHECKING:
    from zootool.share.publish_plan import PublishPlan

_MAX_SHOWN = 40


def publish(
    store: Annotated[Path, typer.Argument(help="A store's folder.")],
    url: Annotated[str, typer.Argument(help="A folder, s3://, gs://, ... or hf://datasets/OWNER/NAME.")],
    licence: Annotated[
        str | None, typer.Option(help="Of the weights. \\[default: what the zoo says, CC-BY-4.0 if built here]")
    ] = None,
    source_terms: Annotated[str | None, typer.Option(help="Terms of the images, where nobody knows them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and upload nothing.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Upload what is there too, which mends a damaged copy.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Files that are uploaded at once.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Verify a store and publish it; the manifest comes last, so nobody sees half of it.

    Example: zoo publish digits.zoo s3://bucket/digits.zoo --dry-run
    """
    from zootool.share.publish import publish as publish_store
    from zootool.share.terms import GivenTerms

    with progress_bars() as report:
        plan = publish_store(
            store, url, GivenTerms(licence, source_terms), dry_run=dry_run, anew=anew, workers=workers, report=report
        )
    value = asdict(plan) | {"dry_run": dry_run, "num_bytes": plan.num_bytes}
    answer(as_json, value, *_lines(plan, store, dry_run))


def _lines(plan: "PublishPlan", store: Path, dry_run: bool) -> Iterator[str]:
    what = "there already" if plan.is_done else "would publish" if dry_run else "published"
    yield f"[green]{what}[/] {shown(store)} at {shown(plan.url)}, id {plan.zoo_id[:16]}"
    yield f"licence  {shown(plan.licence)}"
    for name, terms in plan.source_terms.items():
        yield f"images   {shown(name)}: {shown(terms)}"
    if plan.is_new_version and plan.parent:
        yield f"version  new, since zoo.json now states these terms; its parent is your {plan.parent[:16]}"
    if plan.replaces:
        yield f"replaces {plan.replaces[:16]}"
    if plan.is_done:
        return
    verb = "to upload" if dry_run else "uploaded"
    yield f"{verb} {len(plan.to_upload):,} files, {plan.num_bytes / 1e6:,.1f} MB; {len(plan.present):,} were there"
    if plan.to_remove:
        yield f"{'to remove' if dry_run else 'removed'} {len(plan.to_remove):,} files"
    if not dry_run:
        yield f"next: zoo pull {shown(plan.url)}@{plan.zoo_id}"
        return
    for path, size in sorted(plan.to_upload.items())[:_MAX_SHOWN]:
        yield f"  + {shown(path)}  {size:,} bytes"
    for path in plan.to_remove[:_MAX_SHOWN]:
        yield f"  - {shown(path)}"
    more = max(0, len(plan.to_upload) - _MAX_SHOWN) + max(0, len(plan.to_remove) - _MAX_SHOWN)
    if more:
        yield f"  and {more:,} more: see --json"


def pull(
    url: Annotated[str, typer.Argument(help="Where the zoo is; URL@ID takes that version and no other.")],
    destination: Annotated[Path | None, typer.Argument(help="The new folder. \\[default: the URL's last part]")] = None,
    split: Annotated[str | None, typer.Option(help="Only the networks of a split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first networks.")] = None,
    where: Annotated[str | None, typer.Option(help="Which networks, such as split=test,label=3|5.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of the table to keep, such as label,psnr.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Files that are downloaded at once.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Fetch a published zoo, checked and resumed; a part of it becomes a zoo of its own.

    Example: zoo pull https://example.org/digits.zoo --split test --limit 1000
    """
    from zootool.share.address import parse_address
    from zootool.share.pull import pull as pull_zoo
    from zootool.zoo.where import narrowed

    address = parse_address(url)
    target = destination or Path(address.folder_name)
    conditions = where if split is None else narrowed("split", split, where)
    kept = None if columns is None else [name.strip() for name in columns.split(",")]
    with progress_bars() as report:
        done = pull_zoo(address, target, where=conditions, limit=limit, columns=kept, workers=workers, report=report)
    answer(
        as_json,
        {"path": str(done.path), "id": done.zoo_id, "num_files": done.num_files, "bytes": done.num_bytes},
        f"[green]pulled[/] {shown(done.path)}: {done.num_files:,} files, id {done.zoo_id[:16]}",
        f"next: zoo info {shown(done.path)}",
    )
