"""Tests against the recording side: kills, power cuts, bad disks, forged and hostile files."""
