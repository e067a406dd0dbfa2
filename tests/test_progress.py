"""What is left of a long piece of work, foretold from its pace."""

from __future__ import annotations

import io

from rich.console import Console

from mutualnet import progress
from mutualnet.progress import WorkProgress, counted


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_work_left_at_the_pace_so_far():
    lines, clock = [], _Clock()
    work = WorkProgress(lines.append, clock=clock)
    work.part("racing", 100)
    for _ in work.watch(range(4), lambda _: 5.0):
        clock.now += 10
    assert work.time_left() == "about 3 min left"  # 20 took 40 s, 80 are left: 160 s
    work.part("scoring", 20)  # less is left than was thought
    assert work.time_left() == "about 40 s left"
    work.part("reading all of a library", 20 * 3600 / 20)
    assert lines == [
        "racing ...",
        "scoring ..., about 40 s left",
        "reading all of a library ..., about 2.0 h left",
    ]


def test_nothing_is_foretold_before_anything_is_done_and_nothing_is_left_at_the_end():
    clock = _Clock()
    work = WorkProgress(clock=clock)
    work.part("a", 10)
    assert work.time_left() == ""
    clock.now = 3
    work.advance(15)
    assert work.time_left() == "about 0 s left"


def test_a_terminal_gets_a_bar_and_a_file_only_lines():
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal, width=80)
        clock = _Clock()
        with WorkProgress(console=console, clock=clock) as work:
            work.part("scoring", 10)
            clock.now = 5
            work.advance(5)
        text = console.file.getvalue()
        assert ("about 5 s left" in text) == is_terminal
        assert ("50 %" in text) == is_terminal


def test_items_are_counted_every_few_seconds(monkeypatch):
    seconds, lines = iter([0, 1, 7, 9, 13, 20]), []
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    assert list(counted("abcd", "video", lines.append)) == list("abcd")
    assert lines == ["1 of 4 videos, 21 s left", "3 of 4 videos, 4 s left"]
    assert list(counted([], "video", lines.append)) == []
