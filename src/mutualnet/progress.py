"""How far a long piece of work is, and what the rest will take: a bar, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES = 5.0


class WorkProgress:
    """Counts work done, and foretells from its pace when the rest will be.

    Work is in any unit that costs about the same time throughout, such as multiply-adds. What is
    left may turn out larger or smaller on the way.

    Args:
        say: Told the name of each part when it begins, with the time left once that is known.
        console: A terminal to show a bar on, None for lines alone.
        clock: Seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None] = lambda line: None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._clock = say, clock
        self._begin = clock()
        self._done = self._left = 0.0
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn  # a device has no rich

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:.0f} %"),
                TextColumn("{task.fields[left]}"),
                console=console,
                transient=True,
            )
            self._line = self._bar.add_task("", total=1.0, left="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def part(self, line: str, left: float) -> None:
        """Begin a part.

        Args:
            line: What is being done.
            left: Work from now to the end of everything, as far as it can be told.
        """
        self._left = left
        known = f", {text}" if (text := self.time_left()) else ""
        self._say(f"{line} ...{known}")
        if self._bar is not None:
            self._bar.update(self._line, description=line)
        self.advance(0)

    def advance(self, work: float) -> None:
        """Count work as done."""
        self._done += work
        self._left = max(0.0, self._left - work)
        if self._bar is not None:
            self._bar.update(
                self._line,
                completed=self._done,
                total=self._done + self._left or 1.0,
                left=self.time_left(),
            )

    def watch(self, batches: Iterable[Any], work: Callable[[Any], float]) -> Iterator[Any]:
        """Hand batches on, and count the work of each when the next one is asked for."""
        for batch in batches:
            yield batch
            self.advance(work(batch))

    def time_left(self) -> str:
        """Such as `about 3 min left`; empty before anything is done."""
        if not self._done:
            return ""
        seconds = (self._clock() - self._begin) * self._left / self._done
        if seconds < 60:
            return f"about {seconds:.0f} s left"
        if seconds < 3600:
            return f"about {seconds / 60:.0f} min left"
        return f"about {seconds / 3600:.1f} h left"


def counted(items: Sequence[_Item], kind: str, say: Callable[[str], None]) -> Iterator[_Item]:
    """Hand items on one by one, and say every few seconds how far that is.

    Args:
        items: All of them.
        kind: What one is called.
        say: Told lines such as `3 of 4 images, 5 s left`.
    """
    told = began = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - told >= _SECONDS_BETWEEN_LINES:
            left = (now - began) / number * (len(items) - number)
            say(f"{number} of {len(items)} {kind}s, {left:.0f} s left")
            told = now
        yield item
