"""Privacy rules: what a policy file says, and what a writer does about it before it seals."""
