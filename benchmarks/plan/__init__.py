"""The plan's simulation against the service it simulates."""
