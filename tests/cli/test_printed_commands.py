"""Every command that errors, hints, help and documents tell people to type: it exists, and takes its options."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [path for name in ("cli", "zootool", "dng") for path in sorted((ROOT / name).rglob("*.py"))]


def texts_of(path: Path) -> Iterator[str]:
    """The string literals of a source; what is filled in is called X."""
    inner = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def commands_in(text: str, is_document: bool) -> Iterator[str]:
    """Command lines: between backticks, in a document's blocks of code, and behind such words as "Example: "."""
    quoted = re.findall(r"`(zoo [^`]+)`", text)
    if is_document:
        blocks = re.findall(r"(?ms)^```.*?^```", text)
        quoted += [line for block in blocks for line in re.findall(r"(?m)^\s*(?:\$ )?(zoo .+)$", block)]
    else:
        quoted += re.findall(r"(?:Example|next|report|alone|^): ?(zoo .+)", text)
        quoted += re.findall(r"\A(zoo [a-z-]+ .+)\Z", text)
    yield from (line for line in quoted if re.match(r"zoo (-|[a-z])", line))


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words behind its name."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands") and words and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    return found, words


def problem_of(line: str) -> str | None:
    """What is wrong with a command line."""
    line = re.sub(r"\s+#.*", "", line).replace("[", " ").replace("]", " ")
    command, words = resolve(shlex.split(line.replace("\\\n", " "))[1:])
    named = [word.rstrip(".,:;)") for word in words]
    if hasattr(command, "commands"):
        # A group's name, or a kind that is filled in.
        return None if not named or named[0] in ("X", "KIND", "...", "--help") else f"no command {named[0]}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in named if word.startswith("--") and word.partition("=")[0] not in {*options, "--help"}]
    if unknown:
        return f"no option {unknown[0]}"
    required = [parameter.opts[0] for parameter in command.params if parameter.required]
    lacking = [name for name in required if name.startswith("--") and name not in named]
    # A name, with an option's at most, speaks of the command; what has values is to be typed as it stands.
    is_whole = any(not word.startswith("--") for word in named) and "..." not in named and "|" not in line
    return f"lacks {lacking[0]}" if lacking and is_whole else None


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_people_are_told_to_type_exist(path: Path) -> None:
    is_document = path.suffix == ".md"
    texts = [path.read_text(encoding="utf-8")] if is_document else texts_of(path)
    lines = {line.strip() for text in texts for line in commands_in(text, is_document)}
    problems = {line: problem for line in sorted(lines) if (problem := problem_of(line))}
    assert not problems


def test_a_command_that_would_fail_is_found() -> None:
    assert problem_of("zoo report runs/digits") == "lacks --zoo"
    assert problem_of("zoo inform x.zoo") == "no command inform"
    assert problem_of("zoo info x.zoo --quick") == "no option --quick"
    assert problem_of("zoo convert SRC DST.zoo --architecture NET.yaml") is None
    assert list(commands_in("see `zoo info`\n```bash\nzoo ls zoos/\n```\nzoo is", True)) == ["zoo info", "zoo ls zoos/"]
