"""Watched folders: what is taken, and what is not yet."""
