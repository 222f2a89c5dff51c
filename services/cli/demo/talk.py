"""What the demo says while it runs, on stderr: a bar on a terminal, lines anywhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.simulator.delivery import Sent

LINE_EVERY_S: Final = 30.0
Hear = Callable[[Sent], None]


class Talk:
    """Tells the one who waits what is going on."""

    def __init__(self, console: Console) -> None:
        """Speak to a console."""
        self._console = console

    def say(self, line: str) -> None:
        """Say a line."""
        self._console.print(line, highlight=False, soft_wrap=True)

    @contextmanager
    def busy(self, line: str) -> Iterator[None]:
        """Show what takes a while."""
        if not self._console.is_terminal:
            self.say(line)
            yield
            return
        with self._console.status(line):
            yield

    @contextmanager
    def streaming(self, seconds: float) -> Iterator[Hear]:
        """Show how far the stream is; yields what hears of it."""
        if not self._console.is_terminal:
            yield self._lines()
            return
        columns = (
            TextColumn("streaming"),
            BarColumn(),
            TextColumn("{task.fields[told]}, left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task("streaming", total=seconds, told="")
            yield lambda sent: bar.update(task, completed=sent.elapsed_s, told=_told(sent))

    def _lines(self) -> Hear:
        due_s = LINE_EVERY_S

        def hear(sent: Sent) -> None:
            nonlocal due_s
            if sent.elapsed_s >= due_s:
                due_s = sent.elapsed_s + LINE_EVERY_S
                self.say(f"{sent.elapsed_s:.0f} s of streaming: {_told(sent)}")

        return hear


def _told(sent: Sent) -> str:
    return f"{sent.sent:,} messages, {sent.sent / max(sent.elapsed_s, 1e-9):.0f}/s"
