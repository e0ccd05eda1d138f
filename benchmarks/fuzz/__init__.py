"""The service under fuzzed requests: `python -m benchmarks.fuzz --help`."""
