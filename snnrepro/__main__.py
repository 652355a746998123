"""`python -m snnrepro`, the same as the command `snnrepro`."""

import sys

from snnrepro.cli import main

sys.exit(main())
