"""Bundles for the air gap, and receipts that are carried by hand."""
