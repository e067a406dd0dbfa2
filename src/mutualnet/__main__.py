"""`python -m mutualnet`, for launchers that start modules."""

import sys

from mutualnet.cli import main

sys.exit(main())
