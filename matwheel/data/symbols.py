"""Element symbols as files spell them."""

from __future__ import annotations

from pymatgen.core import Element

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.data.rows import Reason

ATOMIC_NUMBERS: dict[str, int] = {
    **{Element.from_Z(z).symbol: z for z in range(1, MAX_ATOMIC_NUMBER + 1)},
    "D": 1,  # deuterium and tritium: isotopes are one element
    "T": 1,
}


def atomic_number(symbol: object) -> int:
    """Atomic number of an element symbol; a charge or a spin, as in `Fe3+,spin=5`, is dropped.

    Raises:
        BadStructureError: If it is not an element from H to Fm.
    """
    name = symbol.partition(",")[0].strip().rstrip("+-0123456789") if isinstance(symbol, str) else ""
    if name not in ATOMIC_NUMBERS:
        raise BadStructureError(Reason.ELEMENT, f"{symbol!r} is not an element from H to Fm")
    return ATOMIC_NUMBERS[name]
