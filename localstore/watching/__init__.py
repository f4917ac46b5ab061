"""Watched folders: files that have come to rest become versions of an artifact.

Needs the keys of whoever writes; the service, which has none, runs it as a process of its own.
"""
