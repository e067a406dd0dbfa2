"""`python -m mutualnet` for several commands, parted by `;`, without as many starts."""

from __future__ import annotations

import runpy
import sys

words = sys.argv[1:]
while words:
    end = words.index(";") if ";" in words else len(words)
    sys.argv = ["mutualnet", *words[:end]]
    words = words[end + 1 :]
    try:
        runpy.run_module("mutualnet", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code:
            raise
