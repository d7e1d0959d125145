"""What a script of `slothstate run` finds beside `state`: tasks, workflows, commands, data, a log."""
