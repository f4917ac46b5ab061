"""What surrounds a run and was not logged by it: code, environment, console, system.

Knows nothing of segments: gives plain facts, and files as paths and contents.
"""
