"""One file a benchmark, found by looking into this folder; see eval/registry.py for what a file holds."""
