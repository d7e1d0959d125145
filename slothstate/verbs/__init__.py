"""The verbs of `slothstate.State`, one module a family: each checks and delegates."""
