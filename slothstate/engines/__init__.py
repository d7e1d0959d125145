"""The engines: where values are kept."""
