"""`mutualnet report`: all about a run in one HTML file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mutualnet.console import make_console
from mutualnet.html_report import report_page
from mutualnet.run_directory import logs_of, read_record
from mutualnet.training import read_epoch_log


def report(path: Path, out: Path | None = None) -> None:
    """Write all about a run into one HTML file that any browser shows.

    Args:
        path: The run.
        out: File to write; by default `report.html` in the run.
    """
    if out is not None and out.is_dir():
        raise ValueError(
            f"--out must be a file that can be written, got the folder {str(out)!r}. "
            f"Name one in it, such as {out / 'report.html'}."
        )
    record = read_record(path)
    page = report_page(record, read_epoch_log(logs_of(path)))
    place = path / "report.html" if out is None else out
    partial = place.with_name(f".{place.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(place)
    except OSError as error:
        raise ValueError(
            f"--out must be a file that can be written, got {place} ({error.strerror or error})"
        ) from None
    finally:
        with suppress(OSError):  # what is wrong has been said
            partial.unlink()
    make_console().print(f"written: {place}")
