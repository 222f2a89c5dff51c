"""Numbers for the cohorts that patients are in: thousands of patients share few of them."""

from typing import Final

from services.core.cohorts import DIMENSIONS

NOBODY: Final = ("",) * len(DIMENSIONS)
"""What stands for the cohorts of what concerns no patient; its number is 0."""


class Groups:
    """The cohorts of a partition's patients, each combination with a number.

    Attributes:
        names: the combinations by number, in the order of DIMENSIONS; the last is the unit.
    """

    def __init__(self) -> None:
        self.names: list[tuple[str, ...]] = [NOBODY]
        self._numbers = {NOBODY: 0}

    def number(self, names: tuple[str, ...]) -> int:
        """Give the number of a combination."""
        found = self._numbers.setdefault(names, len(self.names))
        if found == len(self.names):
            self.names.append(names)
        return found
