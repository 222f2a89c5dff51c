"""The tables of codes and units from their folder, and a site's own beside them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.terminology.book import TABLES, Terminology
from services.core.terminology.table import SITE

SETTING: Final = "VIGIL_SITE_TERMINOLOGY"


def read_terminology(folder: Path, site: Path | None = None) -> Terminology:
    """Read the tables of a folder, and what a site adds to them.

    Args:
        folder: of the tables that every site has.
        site: of the site's own; without one `site/` in the folder, where there is one.

    Raises:
        CommandError: a table is missing, or a row of one cannot be used.
    """
    texts = _read(folder, TABLES, "VIGIL_SCHEMAS")
    try:
        return Terminology.parse(texts, _own(folder, site))
    except ValueError as error:
        raise CommandError(f"{error}.", "Mend this line.", Fault.TERMINOLOGY) from None


def _own(folder: Path, site: Path | None) -> Mapping[str, str]:
    place = site or folder / SITE
    if site is None and not place.is_dir():
        return {}
    try:
        names = sorted(path.name for path in place.iterdir() if path.suffix == ".csv")
    except OSError as error:
        what = f"The folder {place} cannot be read: {error.strerror}."
        raise CommandError(what, f"Set {SETTING}.", Fault.TERMINOLOGY) from None
    return _read(place, names, SETTING)


def _read(folder: Path, names: Iterable[str], setting: str) -> Mapping[str, str]:
    texts = {}
    for name in names:
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8")
        except OSError as error:
            what = f"The table {folder / name} cannot be read: {error.strerror}."
            raise CommandError(what, f"Set {setting}.", Fault.TERMINOLOGY) from None
        except UnicodeDecodeError as error:
            what = f"{folder / name} is no UTF-8 at byte {error.start}."
            raise CommandError(what, "Save it as UTF-8.", Fault.TERMINOLOGY) from None
    return texts
