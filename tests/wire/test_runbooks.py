"""Every question that docs/runbooks tells one to ask is one that the store can answer."""

import re
import uuid

import pytest

from services.audit.migrate import apply, read_migrations
from services.local.home import REPO
from services.runtime.clickhouse import ClickHouse

pytestmark = pytest.mark.wire
PAGES = {path.stem: path.read_text() for path in (REPO / "docs" / "runbooks").glob("*.md")}
ASKED = [
    pytest.param(question, id=name)
    for name, page in sorted(PAGES.items())
    for question in re.findall(r'`vigil sql "([^"]+)"`', page)
]


@pytest.fixture(scope="module")
def store(clickhouse: tuple[str, int]) -> ClickHouse:
    base = "http://{}:{}".format(*clickhouse)
    name = f"runbooks_{uuid.uuid4().hex}"
    ClickHouse(base).command(f"CREATE DATABASE {name}")
    made = ClickHouse(f"{base}/{name}")
    apply(made, read_migrations())
    return made


@pytest.mark.parametrize("question", ASKED)
def test_the_store_can_answer_what_a_page_asks(store: ClickHouse, question: str) -> None:
    assert not any(store.query(question).values())
