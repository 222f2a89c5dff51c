"""Kafka's jars: fetched once by jgo, held to the digests of the lock file at every start."""

import fcntl
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext

from services.core.errors import CommandError
from services.core.faults import Fault
from services.local.home import REPO, here

LOCK = REPO / "infra" / "kafka" / "jars.lock"
# Resolved one group at a time: in one call, what log4j manages would replace Kafka's own versions.
WANTED = (
    ("org.apache.kafka:kafka_2.13:4.3.1",),
    (
        "org.apache.logging.log4j:log4j-core:2.25.4",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
)


class Offline(CommandError):  # noqa: N818 - it says what is the case
    """A jar is missing here and the repository cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Jar:
    """One line of the lock: Maven coordinate `group:artifact:version` and sha256 in hex."""

    coordinate: str
    sha256: str


def locked(path: Path = LOCK) -> list[Jar]:
    """The jars that Kafka is started with, in the order of its class path."""
    pairs = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return [Jar(coordinate=coordinate, sha256=sha256) for sha256, coordinate in pairs]


def class_path(cache: Path, *, jars: list[Jar], remote: str | None = None) -> list[Path]:
    """Files of the jars, each with the digest of the lock; what is missing is fetched first.

    Args:
        cache: folder of the downloaded files, shared safely between processes.
        jars: what to find.
        remote: address of a Maven repository; Maven Central when None.

    Raises:
        Offline: a jar is missing and the repository cannot be reached.
        CommandError: the repository serves a jar with another digest.
    """
    context = MavenContext(repo_cache=cache, remote_repos={"remote": remote or MAVEN_CENTRAL_URL})
    artifacts = [(jar, _artifact(context, jar.coordinate)) for jar in jars]
    with _alone(cache), ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda pair: _verified(*pair), artifacts))


def cached(cache: Path, jars: list[Jar]) -> list[Jar]:
    """Those of the jars that lie in the cache with the right digest."""
    context = MavenContext(repo_cache=cache)
    return [jar for jar in jars if _intact(_path(_artifact(context, jar.coordinate)), jar)]


def _artifact(context: MavenContext, coordinate: str) -> Artifact:
    group, name, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact()


def _path(artifact: Artifact) -> Path:
    return Path(artifact.context.repo_cache, artifact.component.path_prefix, artifact.filename)


def _intact(path: Path, jar: Jar) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _verified(jar: Jar, artifact: Artifact) -> Path:
    path = _path(artifact)
    if _intact(path, jar):
        return path
    path.unlink(missing_ok=True)  # half of a download that was cut off, or not what was promised
    _download(artifact)
    if _intact(path, jar):
        return path
    path.unlink(missing_ok=True)
    raise CommandError(
        f"{path.name} was served with another sha256 than infra/kafka/jars.lock promises",
        "look at the repository or mirror that served it; nothing was started",
        Fault.JAR_CHANGED,
    )


def _download(artifact: Artifact) -> None:
    try:
        artifact.resolve()
    except (OSError, RuntimeError) as error:
        raise Offline(
            f"Kafka's jar {artifact.filename} is not in the cache and cannot be fetched",
            "go online once, or set KAFKA_BOOTSTRAP_SERVERS to a cluster that runs",
            Fault.JAR_MISSING,
        ) from error


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resolved(context: MavenContext) -> list[Artifact]:
    """What Kafka and its log need at run time, one version of each, in a stable order."""
    found: dict[tuple[str, str], Artifact] = {}
    for group in WANTED:
        inputs, below = context.resolver.resolve([context.create_dependency(c) for c in group])
        for dependency in [*inputs, *(d for d in below if d.scope in ("compile", "runtime"))]:
            found.setdefault((dependency.groupId, dependency.artifactId), dependency.artifact)
    return [found[key] for key in sorted(found)]


def write_lock(cache: Path, path: Path = LOCK) -> None:
    """Resolves anew, downloads, and writes the digests: a person then reads the difference."""
    lines = ["# sha256, coordinate; written by: python -m services.local.jars\n"]
    for artifact in _resolved(MavenContext(repo_cache=cache)):
        digest = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
        lines.append(f"{digest} {artifact.groupId}:{artifact.artifactId}:{artifact.version}\n")
    path.write_text("".join(lines))


if __name__ == "__main__":
    write_lock(here().cache)
