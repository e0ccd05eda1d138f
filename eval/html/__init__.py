"""Pages that people look at: each one file, opened from a disk without a network. They are made from plain values."""
