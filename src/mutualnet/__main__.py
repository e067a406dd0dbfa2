"""`python -m mutualnet`, for launchers that start modules."""

from __future__ import annotations

import sys

from mutualnet.cli import main

sys.exit(main())
