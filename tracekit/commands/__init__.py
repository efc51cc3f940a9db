"""One click command per file; they join rooms and compute nothing."""
