"""The service: one home kept in step, by what wakes it and what it is asked."""
