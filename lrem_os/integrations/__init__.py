"""lrem-os as a component of other frameworks: thin, each behind an extra of its own."""
