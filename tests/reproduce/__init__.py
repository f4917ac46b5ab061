"""Bringing back the code of a run, and comparing two runs."""
