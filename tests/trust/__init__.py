"""Attacks on the key side: who is believed, what opens, what stays erased."""
