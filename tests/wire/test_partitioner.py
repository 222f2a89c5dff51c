import hashlib

import pytest

from services.core.events import partition_of
from services.runtime.kafka.admin import create_topic, partitions_of
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("partitions", [1, 4, 24])
def test_librdkafka_puts_a_patient_where_we_say(kafka: str, partitions: int) -> None:
    options = {"bootstrap.servers": kafka}
    topic = f"partitioner-{partitions}"
    create_topic(options, topic, partitions=partitions, config={})
    publisher = Publisher(options)
    delivered: list[bool] = []
    keys = {hashlib.sha256(bytes([n])).digest()[: n % 32 + 1] for n in range(200)}
    for key in keys:
        publisher.send(Output(topic, key, b""), delivered.append)
    assert publisher.flush(30) == 0
    assert delivered == [True] * len(keys)
    records = list(scan(options, partitions_of(options, [topic]), patience_s=10))
    places = {record.key: record.partition for record in records}
    assert places == {key: partition_of(key, partitions) for key in keys}
