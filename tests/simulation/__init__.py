"""A deterministic simulation of replicas and remotes: the shipped engine and remotes run, and only
clock, transport and disk are replaced. `python -m tests.simulation --seed N` replays a schedule.
"""
