"""The sample catalog and the guided tour over it."""
