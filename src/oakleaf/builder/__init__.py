"""From a configuration to module, data and Trainer, and from a checkpoint back to a module."""
