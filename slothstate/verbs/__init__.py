"""The verbs of `slothstate.State`, one module a family, as in `slothstate.sqlite`: each checks and delegates."""
