"""The bytes of docs/format.md: pure functions between values and bytes, no file and no clock."""
