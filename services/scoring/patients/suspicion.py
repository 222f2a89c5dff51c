"""What is suspect about a value that stands beside earlier ones: a jump, or a sensor that froze.

Only the newest reading of a vital sign is judged. Nothing is kept out: a patient may do both.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.vitals import FROZEN_READINGS, JUMP_WITHIN_S, JUMPS, VITALS
from services.scoring.patients.folding import KEPT_OUT
from services.scoring.patients.message import KIND, MEASURED, OBSERVATION, READINGS, VARIABLES
from services.scoring.patients.sheet import AT, FLAGS, ROWS, VARIABLE, Sheet
from services.scoring.patients.summary import LAST_AT, RUN

FROZEN_BITS: Final = 8
"""Above the bits of the vital signs that jumped stand those of the ones that froze."""
JUMPED: Final = (1 << FROZEN_BITS) - 1
_JUMPS: Final = np.array([JUMPS[name] for name in VITALS], np.float32)
_MANY: Final = len(VITALS)
_WITHIN: Final = JUMP_WITHIN_S * 1_000_000

Array = npt.NDArray[Any]


@compiled
def suspects(sheet: Sheet, told: Array, fields: Array) -> int:
    """Say which values of an observation are suspect.

    Args:
        sheet: of the patient, used up by `write_features`.
        told: bytes that tell the observation.
        fields: (FIELDS,) places in them.

    Returns:
        bit i: vital sign i jumped; bit FROZEN_BITS + i: it froze.
    """
    found = np.int64(0)
    if fields[KIND] != OBSERVATION:
        return int(found)
    for i in range(fields[READINGS]):
        vital = np.int64(told[fields[VARIABLES] + i])
        if vital < _MANY and sheet.known[LAST_AT, vital] == fields[MEASURED]:
            if sheet.known[RUN, vital] >= FROZEN_READINGS:
                found |= 1 << (FROZEN_BITS + vital)
            if _jumped(sheet, vital, fields[MEASURED]):
                found |= 1 << vital
    return int(found)


@compiled
def _jumped(sheet: Sheet, vital: np.int64, at: int) -> bool:
    """Hold the newest value of a vital sign against the one before it."""
    numbers, marks = sheet.numbers, sheet.marks
    for row in range(sheet.state[ROWS] - 1, -1, -1):
        if at - numbers[AT, row] > _WITHIN:
            return False
        before = marks[row, VARIABLE] == vital and numbers[AT, row] < at
        if before and marks[row, FLAGS] & KEPT_OUT == 0:
            return bool(abs(sheet.last[vital] - sheet.values[row]) >= _JUMPS[vital])
    return False
