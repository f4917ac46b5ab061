"""Contents as objects: cut, known again, sealed, durable; and back into files."""
