"""`zoo publish`: put a store where others can read it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.console import JsonOption, print_json, progress_bars, say, shown


def publish(
    store: Annotated[Path, typer.Argument(help="A store's folder.")],
    url: Annotated[str, typer.Argument(help="A folder, s3://, gs://, ... or hf://datasets/OWNER/NAME.")],
    licence: Annotated[str | None, typer.Option(help="Of the weights. [default: what the zoo says]")] = None,
    source_terms: Annotated[str | None, typer.Option(help="Terms of the images, where nobody knows them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and upload nothing.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Files that are uploaded at once.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Verify a store and publish it; the manifest comes last, so nobody sees half of it.

    Example: zoo publish digits.zoo s3://bucket/digits.zoo --dry-run
    """
    from zootool.share.publish import publish as publish_store
    from zootool.share.terms import GivenTerms

    with progress_bars() as report:
        plan = publish_store(
            store, url, GivenTerms(licence, source_terms), dry_run=dry_run, workers=workers, report=report
        )
    if as_json:
        print_json(asdict(plan) | {"dry_run": dry_run, "num_bytes": plan.num_bytes})
        return
    say(
        f"[green]{'would publish' if dry_run else 'published'}[/] {shown(store)} at {shown(url)}, id {plan.zoo_id[:16]}"
    )
    say(f"licence  {shown(plan.licence)}")
    for name, terms in plan.source_terms.items():
        say(f"images   {shown(name)}: {shown(terms)}")
    if plan.is_new_version and plan.parent:
        say(f"version  new, since zoo.json now states these terms; its parent is your {plan.parent[:16]}")
    verb = "to upload" if dry_run else "uploaded"
    say(f"{verb} {len(plan.to_upload):,} files, {plan.num_bytes / 1e6:,.1f} MB; {len(plan.present):,} were there")
    if plan.replaces:
        say(f"replaces {plan.replaces[:16]}; {len(plan.to_remove):,} files of it are removed")
    if not dry_run:
        say(f"next: zoo pull {shown(url)}@{plan.zoo_id[:16]}")
