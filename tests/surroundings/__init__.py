"""What surrounds a run: code, environment, console, system."""
