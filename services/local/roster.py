"""Which programs make up the local stack; a new service is one line here."""

import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process that the supervisor keeps alive.

    Args:
        name: of the process and of its log.
        command: its command line, in which {port}, {home} and {cache} are filled in.
        port: the usual one on 127.0.0.1; another is chosen when that is taken.
        told_by: variable that tells the process its port.
        replaced_by: variable which, when set, says that this part runs elsewhere.
        final: exit codes after which it is not restarted.
        gives_way: whether it waits where the machine is busy: nobody waits for it at a bedside.
    """

    name: str
    command: tuple[str, ...]
    port: int
    told_by: str = "VIGIL_METRICS_PORT"
    replaced_by: str = ""
    final: tuple[int, ...] = (0, 3, 6)
    gives_way: bool = False


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)


KAFKA: Final = Program(
    name="kafka",
    command=_module("services.local.kafka", "--port", "{port}", "--data", "{home}/kafka"),
    port=9092,
    replaced_by="KAFKA_BOOTSTRAP_SERVERS",
    final=(0,),  # Java ends with 3 when it runs out of memory
)
CLICKHOUSE: Final = Program(
    name="clickhouse",
    command=_module(
        "services.local.clickhouse", "--port", "{port}", "--data", "{home}/clickhouse"
    ),
    port=8123,
    replaced_by="CLICKHOUSE_URL",
    final=(0,),
    gives_way=True,
)
STORES: Final = (KAFKA, CLICKHOUSE)
SERVICES: Final = (
    Program(
        name="gateway",
        command=_module("services.gateway"),
        port=8400,
        told_by="VIGIL_GATEWAY_PORT",
    ),
    Program(name="ingest", command=_module("services.ingest"), port=9401),
    Program(name="scoring", command=_module("services.scoring"), port=9402),
    Program(name="labelling", command=_module("services.labelling"), port=9405, gives_way=True),
    Program(name="monitoring", command=_module("services.monitoring"), port=9403, gives_way=True),
    Program(name="audit", command=_module("services.audit"), port=9404, gives_way=True),
)
