"""The swap: one file per host, each check -> swap -> restore, and nothing else of the host touched."""
