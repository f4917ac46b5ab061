"""Tests of the bytes: the document, the vectors, properties and attacks."""
