"""Run the command line as `python -m baoha_cli`."""

from __future__ import annotations

import sys

from baoha_cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
