"""Room: what may leave this disk or a remote, and how it comes back."""
