"""What can be wrong, each under a number that stays; docs/errors.md is made of this table.

The first digit is the exit code. The second says where it is: 0 command line and files, 1 the
stack on this machine, 2 Kafka, topics and schemas, 3 ClickHouse and the ledger, 4 models, 5 keys
and tokens, 6 gateway and sources, 7 data and terminology, 8 watching and reports. A number that
was used once never gets another meaning.
"""

from enum import Enum


class Fault(Enum):
    """One kind of error.

    Attributes:
        number: of four digits.
        means: what has happened and why, one sentence.
        remedy: what to do, one sentence; the message at the terminal may say more.
    """

    USAGE = 2001, "The command line is not one that this command knows.", "See its `--help`."
    UNASKED = (
        2002,
        "Something would be changed, and nobody is at the terminal to be asked.",
        "Look at what would change with `diff` or `--dry-run`, then say `--yes`.",
    )
    NO_FOLDER = (
        2003,
        "A file cannot be written there: its folder does not exist, or it is a folder itself.",
        "Name a file in a folder that exists.",
    )
    NO_FAULT = 2004, "There is no error of that code.", "`vigil errors` lists all."
    NO_LOG = 2101, "No process of that name has said anything.", "Choose one that is named."
    BAD_SQL = 2301, "The store does not understand the statement.", "Correct it."
    NOT_IN_USE = (
        2401,
        "No such model is in use, or no change stands that could be taken back.",
        "`vigil models list` shows what holds.",
    )
    SOURCE_ID = (
        2601,
        "The id cannot be that of a source.",
        "Use 1 to 32 small letters, digits and dashes.",
    )
    GATEWAY_ADDRESS = (
        2602,
        "This is not the address of a gateway.",
        "Give scheme, host and port, such as `http://127.0.0.1:8400`.",
    )
    NO_RECORDING = (
        2701,
        "There is nothing at the path that was to be replayed.",
        "Name a file or folder that exists.",
    )
    NO_LETTER = (
        2702,
        "There is no such dead letter.",
        "`vigil dlq list` names those that there are.",
    )
    LETTER_NAME = (
        2703,
        "The text names no dead letter.",
        "Give partition and offset, such as `2-17`.",
    )
    NO_SIGNAL = (
        2801,
        "There is no such signal.",
        "`vigil drift list` names those that are open.",
    )

    DISK_FULL = (
        3001,
        "The disk has too little room for what is to be written.",
        "Make room on the disk of `.vigil`, or set `VIGIL_HOME` to another one.",
    )
    SETTING = (
        3002,
        "A variable of the environment has a value that its setting does not allow.",
        "Correct the variables that are named; their values are not shown.",
    )
    UNWRITABLE = (
        3003,
        "A file cannot be written: no right to, or no room.",
        "Name a place with room that you may write to.",
    )
    NOT_INSTALLED = (
        3004,
        "A package that this command needs is not installed here.",
        "`make setup` installs all of them.",
    )
    AT_WORK = 3101, "Another command of that name is at work here.", "Wait for it, or end it."
    KAFKA_STORAGE = (
        3102,
        "Kafka's storage could not be formatted.",
        "`vigil doctor` checks disk and Java.",
    )
    PATH_TOO_LONG = (
        3103,
        "The path of the home is too long for the supervisor's socket.",
        "Set `VIGIL_HOME` to a shorter one.",
    )
    SUPERVISOR = 3104, "The supervisor of the stack did not start.", "Read its log."
    NO_CONTRACTS = (
        3201,
        "The folder of the schemas cannot be read, or has no topics.",
        "Start in the project's folder, or set `VIGIL_SCHEMAS` to its `schemas`.",
    )
    TOPIC_FILE = (
        3202,
        "A file in `schemas/topics` does not describe the topic of its name.",
        "Correct it after the example of its neighbors.",
    )
    SCHEMA_FILE = 3203, "A file in `schemas/events` is no schema of a record.", "Correct it."
    NO_TOPIC = 3204, "A topic does not exist.", "Run `vigil topics apply`."
    PARTITIONS = (
        3205,
        "Topics that are read together have different numbers of partitions.",
        "`vigil topics apply` says which one is in the way.",
    )
    TRANSPORT = (
        3206,
        "Faust or aiokafka is another version than the one that was proved to lose nothing.",
        "Install the versions of the lock.",
    )
    STORE_REFUSES = (
        3301,
        "ClickHouse refuses the user, the password or the database.",
        "Check `CLICKHOUSE_URL`, `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD_FILE`.",
    )
    NOT_MIGRATED = 3302, "Tables are missing in the store.", "Run `vigil ledger migrate`."
    STORE_NEWER = (
        3303,
        "The store was made by a later version of Vigil.",
        "Run that version, or a later one.",
    )
    MIGRATION_CHANGED = (
        3304,
        "A file of tables was changed after it had been applied.",
        "Restore it, and put the change into a new file with the next number.",
    )
    BUNDLE = (
        3401,
        "A model bundle is incomplete, was changed, or is not the one that is expected.",
        "Restore it from where it was released, or train it again.",
    )
    MODEL_GRAPH = (
        3402,
        "ONNX Runtime cannot load the model, or it has other inputs than its bundle says.",
        "Use another bundle, or train this one again.",
    )
    POLICY = 3403, "The policy of a bundle cannot be read.", "Mend it, and make the bundle again."
    NO_TRAINING_DATA = (
        3404,
        "There are no training data at the path.",
        "Name a Parquet file or a folder of .psv files.",
    )
    NO_POLICY = (
        3405,
        "The file of a policy cannot be read.",
        "Name a file; `vigil policy show` says what is in use.",
    )
    NO_SCORES = (
        3406,
        "The ledger has no score of the model in that time.",
        "Name another time, or let it score first.",
    )
    KEY_FILE = (
        3501,
        "A key file is missing, empty, readable by others, or holds something else than keys.",
        "`vigil up` makes key files; `chmod 600` keeps others out.",
    )
    NO_EPOCH = (
        3502,
        "The key with which a payload was sealed is not in the key file.",
        "Use the key file that ingest used then: one key per line, oldest first.",
    )
    TOKEN_NEEDED = (
        3503,
        "Metrics would be shown beyond this machine to whoever asks.",
        "Name a file with a token in `VIGIL_METRICS_TOKEN_FILE`, or listen on loopback.",
    )
    TOKEN_FILE = (
        3504,
        "The file with the token cannot be read.",
        "Name a file that this service may read, or none.",
    )
    SOURCES_FILE = (
        3601,
        "The list of sources cannot be used.",
        "List the sources as docs/gateway.md shows.",
    )
    OPEN_GATEWAY = (
        3602,
        "The gateway would listen beyond this machine and know nobody.",
        "Give each source a token, or listen on loopback.",
    )
    GATEWAY_PORT = (
        3603,
        "The gateway cannot open its port.",
        "End what uses it, or set `VIGIL_GATEWAY_PORT`.",
    )
    OUTBOX_FOLDER = (
        3604,
        "The gateway cannot use the folder of its outbox.",
        "Name a folder of this gateway alone in `VIGIL_OUTBOX_FOLDER`, on a disk that stays.",
    )
    TLS_FILES = (
        3605,
        "The gateway cannot use the files of its TLS.",
        "Name PEM files in `VIGIL_TLS_CERTIFICATE_FILE` and `VIGIL_TLS_KEY_FILE`.",
    )
    SUBSCRIPTIONS_FILE = (
        3606,
        "The list of subscriptions cannot be used.",
        "List the subscriptions as docs/gateway.md shows.",
    )
    TERMINOLOGY = (
        3701,
        "A table of codes or units is missing, or a row of one cannot be used.",
        "Mend the line that is named in `schemas/terminology`.",
    )
    NO_BASELINE = (
        3801,
        "The file of a baseline cannot be read.",
        "Make one with `vigil drift baseline make` or `freeze`.",
    )

    NO_ANSWER = (
        4001,
        "Kafka, ClickHouse or a service does not answer.",
        "`vigil status` shows what runs, `vigil doctor` what is wrong.",
    )
    DEMO_FAILED = (
        4002,
        "A command that the demo needs gave no answer.",
        "Run the demo again; if it fails again, `vigil doctor` says what is the matter.",
    )
    KAFKA_DOWN = 4101, "Kafka did not come up.", "Read its log; `vigil logs kafka`."
    CLICKHOUSE_DOWN = 4102, "ClickHouse did not come up.", "Read its log; `vigil logs clickhouse`."
    PREPARATION = (
        4103,
        "Topics or tables could not be made while the stack came up.",
        "Mend what is named, then `vigil up` again; nothing was left running.",
    )
    SERVICE_NOT_READY = (
        4104,
        "A service of the stack did not become ready.",
        "`vigil logs NAME`; the rest runs until `vigil down`.",
    )
    PORT_TAKEN = (
        4105,
        "Another program holds the port.",
        "End it, or `vigil down` and `vigil up` to choose another port.",
    )
    JAR_MISSING = (
        4106,
        "A jar of Kafka is not in the cache and cannot be fetched.",
        "Go online once, or set `KAFKA_BOOTSTRAP_SERVERS` to a cluster that runs.",
    )
    JAR_CHANGED = (
        4107,
        "A jar of Kafka was served with another digest than the lock promises.",
        "Look at the repository or mirror that served it; nothing was started.",
    )
    STORE_SILENT = (
        4301,
        "The store gave no answer to a question.",
        "`vigil status`, `vigil ledger migrate`.",
    )
    GATEWAY_SILENT = (
        4601,
        "The gateway took nothing for too long.",
        "See `vigil status` and `vigil logs gateway`; then send again: duplicates are recognized.",
    )

    TOPIC_REFUSED = (
        5201,
        "A topic cannot be brought to what its file says without loss or disorder.",
        "Nothing was changed; `vigil topics diff` shows everything that differs.",
    )
    INCOMPATIBLE = (
        5202,
        "A schema cannot be read by what was written before, or the other way round.",
        "Give new fields a default and leave the others as they were.",
    )
    ONLY_ASKS = (
        5301,
        "`vigil sql` only asks, and the statement does something else.",
        "Tables change by `vigil ledger migrate` alone, rows by the audit service alone.",
    )
    LEDGER_UNREADABLE = (
        5302,
        "The ledger holds records that this version cannot read.",
        "Run the version of Vigil that wrote them, or a later one.",
    )
    LEDGER_EMPTY = (
        5303,
        "The ledger holds no predictions.",
        "Wait until something was scored, or name a period.",
    )
    TOO_FEW_STAYS = 5401, "The data have too few septic stays.", "Train on more patients."
    TRAINING_DATA = (
        5402,
        "The data are not in the shape of the PhysioNet 2019 challenge.",
        "Bring them into that shape.",
    )
    BUNDLE_REFUSED = (
        5403,
        "A model cannot be put into use: its bundle is unfit, or the part it shall have is.",
        "Nothing was changed; `vigil models check` says what is wrong with a bundle.",
    )
    OVERTAKEN = (
        5404,
        "Somebody else changed models or policies at the same moment.",
        "Nothing was changed; look at `vigil models list` and decide anew.",
    )
    POLICY_REFUSED = (
        5405,
        "A policy cannot be put into use: it contradicts itself, or its version names another.",
        "Nothing was changed; `vigil policy check` says what is wrong with it.",
    )
    SEALED_OTHERWISE = (
        5501,
        "A payload was sealed with another key, or was changed.",
        "Use the key file that ingest uses.",
    )
    KEY_PENDING = (
        5502,
        "A payload key was appended, and the time from which it seals has not come.",
        "Wait until it has: `vigil keys list` says when.",
    )
    NO_IDENTITY = (
        5503,
        "Nobody of that pseudonym is known.",
        "Give the 32 hex digits that alerts and boards show.",
    )
    TIME_REFUSED = (
        5601,
        "The gateway refuses the time that a source sends.",
        "Check that its clock is configured as declared, and that its time moves on.",
    )
    NOT_RECORDED = (
        5701,
        "The file holds no recorded patients in a form that is known.",
        "Give .parquet or .psv files of PhysioNet 2019, or FHIR as .json or .ndjson.",
    )
    SCENARIO = (
        5702,
        "There is no such scenario, or its file says what a scenario cannot.",
        "Take one of those that are named.",
    )
    BASELINE = (
        5801,
        "The file is no baseline that a site can use, or there are too few patients for one.",
        "A site baseline of 100 patients or more can be used; see docs/drift.md.",
    )
    TOO_LARGE = 5802, "The report is larger than 2 MB.", "Ask for a shorter period."

    UNEXPECTED = (
        7001,
        "Vigil itself is wrong somewhere; the command ended with 70.",
        "Tell those who keep it: the lines above, and `vigil --version`.",
    )

    def __init__(self, number: int, means: str, remedy: str) -> None:
        self.number = number
        self.means = means
        self.remedy = remedy

    @property
    def code(self) -> str:
        """As people write it.

        >>> Fault.NOT_MIGRATED.code
        'VGL-3302'
        """
        return f"VGL-{self.number}"
