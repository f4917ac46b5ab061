"""Tests of recording: values, steps, config, ends of processes, many writers, names."""
