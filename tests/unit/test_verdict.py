"""What a verification found is one row, and one digest stands for the heads of all chains."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.audit.verdict import Last, Noted, heads_digest, last, note

CHAINS = st.lists(
    st.tuples(
        st.sampled_from(["alerts.v1", "vitals.v1"]),
        st.text("0123456789abcdef", min_size=1, max_size=4),
        st.integers(0, 3),
        st.integers(0, 99),
        st.text("0123456789abcdef", min_size=1, max_size=4),
    ),
    unique=True,
)


class Book:
    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Sequence[Any]]] = {}

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        self.rows[table] = columns

    def query(self, *_: Any, **__: Any) -> dict[str, Sequence[Any]]:
        return {"good_at": [12.5], "found": [3]}


@given(CHAINS, st.randoms(use_true_random=False))
def test_the_digest_of_heads_does_not_hang_on_their_order(
    chains: list[tuple[str, str, int, int, str]], chance: Any
) -> None:
    shuffled = chance.sample(chains, len(chains))
    assert heads_digest(shuffled) == heads_digest(chains)


@given(CHAINS, CHAINS)
def test_other_chains_have_another_digest(
    one: list[tuple[str, str, int, int, str]], other: list[tuple[str, str, int, int, str]]
) -> None:
    assert (heads_digest(one) == heads_digest(other)) == (sorted(one) == sorted(other))


def test_a_verdict_is_one_row_whose_time_is_the_stores() -> None:
    book = Book()
    of: dict[str, Any] = {"seconds": 1.5, "records": 9, "chains": 3, "sound": 2, "findings": 1}
    note(book, Noted(**of, heads="ab" * 32, version="0.1.0"))
    row = {**of, "heads": "ab" * 32, "version": "0.1.0"}
    assert book.rows == {"verifications": {name: [value] for name, value in row.items()}}
    assert last(book) == Last(good_at=12.5, findings=3)
