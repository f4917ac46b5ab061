"""What training scripts call: `init`, `Run`, config, summary, values and the end of a process."""
