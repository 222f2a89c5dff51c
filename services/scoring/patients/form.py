"""The form of the changelog's rows: a mark before each, so that one of another form is known.

Count the mark up whenever a row means something else: what `Leaf`, `Rest`, `Person`, FRONT or
`packing` say.
"""

from typing import Final

from services.core.errors import Stop

MARK: Final = b"vgl4"


def marked(row: bytes) -> bytes:
    """Give the row as it is written."""
    return MARK + row


def unmarked(row: bytes) -> bytes:
    """Give what stands behind the mark.

    Raises:
        Stop: another version wrote the row; to guess at it would make state wrong.
    """
    if not row.startswith(MARK):
        raise Stop(
            "scoring-changelog was written by another version of Vigil: run that one, or begin "
            "anew as docs/operations.md says under `A changelog of another version`"
        )
    return row[len(MARK) :]
