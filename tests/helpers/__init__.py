"""What test modules share; the README has a line for each module."""
