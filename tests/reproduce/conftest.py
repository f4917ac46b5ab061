"""Git for a person without configuration, as in the tests of the surroundings."""

from tests.surroundings.conftest import person, repository

__all__ = ["person", "repository"]
