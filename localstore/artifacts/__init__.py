"""Artifacts: versions of files under a name, with aliases, types, lineage (docs/format.md 7, 9)."""
