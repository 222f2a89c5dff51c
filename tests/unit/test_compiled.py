"""What was compiled of other sources is never used."""

from pathlib import Path

import numba
from builders import REPO

from services.core.compiled import edition


def room(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_same_sources_have_the_same_name_wherever_they_lie(tmp_path: Path) -> None:
    here = room(tmp_path / "here", called="A = 1", inner__caller="B = 2")
    there = room(tmp_path / "there", called="A = 1", inner__caller="B = 2")
    assert edition(here) == edition(there)


def test_another_text_or_place_of_any_file_is_another_edition(tmp_path: Path) -> None:
    folders = [
        room(tmp_path / "0", called="A = 1", inner__caller="B = 2"),
        room(tmp_path / "1", called="A = 2", inner__caller="B = 2"),
        room(tmp_path / "2", called="A = 1", inner__other="B = 2"),
        room(tmp_path / "3", called="A = 1"),
    ]
    assert len({edition(folder) for folder in folders}) == len(folders)


def test_loops_are_kept_with_the_edition_of_all_that_they_may_contain() -> None:
    rooms = [REPO / "services" / name for name in ("core", "scoring")]
    assert Path(numba.config.CACHE_DIR).name == edition(*rooms)  # type: ignore[attr-defined]  # made when it is imported
