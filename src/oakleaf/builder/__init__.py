"""From a configuration to module, data and Trainer, and from a checkpoint back to a module.

This is the only package that instantiates what a configuration names. It may import everything below it (games, losses,
data, networks, runtime, config) and nothing of metrics, callbacks, cli or sweeps: those are named in the configuration.
"""
