"""Makes a run again from what was saved of it, and says how two runs differ.

Knows nothing of segments: takes plain facts, and files as paths and contents.
"""
