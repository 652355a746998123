"""One module a library. Each builds the networks of `benchmarks.tasks` the way the library's own documentation does."""
