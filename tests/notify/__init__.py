"""Notifiers: who is told, of what, and once."""
