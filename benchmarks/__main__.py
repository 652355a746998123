"""`python -m benchmarks`, see `benchmarks.run`. Workers import this file too, so it imports nothing else for them."""

import sys

if __name__ == "__main__":
    from benchmarks.run import main

    sys.exit(main())
