from pathlib import Path
from typing import Any

from zootool.build.siren.lanes import compile_kept, source_digest


def test_code_that_another_version_kept_is_not_opened() -> None:
    def entry(x: Any) -> Any:
        return x + 1

    old = compile_kept(entry, "0" * 64)
    assert old(1) == 2
    kept = list(Path(old.stats.cache_path).glob("*0000000000000000*.nbi"))  # type: ignore[missing-attribute]
    assert kept
    for path in kept:
        path.write_bytes(b"cmodule_that_is_gone\nname\n.")

    def entry(x: Any) -> Any:
        return x + 2

    try:
        assert compile_kept(entry, "1" * 64)(1) == 3
    finally:
        for path in kept[0].parent.glob("test_kept_code.*"):
            path.unlink()


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = source_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = source_digest(tmp_path)
    (tmp_path / "b.py").write_text("2")
    assert len({first, second, source_digest(tmp_path)}) == 3
