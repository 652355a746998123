"""The same work here and in other libraries: `make bench` measures it, `book/benchmark.md` shows it."""
