"""What is tried with several nodes and services takes minutes, so it lies beside the tests: ``pytest trials``."""

from tests.conftest import clean_environment, node_cache

__all__ = ["clean_environment", "node_cache"]
