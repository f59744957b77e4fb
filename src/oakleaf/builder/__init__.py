"""From a configuration to module, data and Trainer, and from a checkpoint back to a module.

Runs and checkpoints are instantiated here. It may import everything below it (games, losses,
data, networks, runtime, config) and nothing of metrics, callbacks, cli or sweeps: those are named in the configuration.
"""
