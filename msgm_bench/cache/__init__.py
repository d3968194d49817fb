"""Finished stages on disk, known by the hash of all that determines them."""
