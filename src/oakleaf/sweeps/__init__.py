"""Sweeps: many runs by one command, each in its own process, with a ranking at the end.

The same command continues a sweep that was stopped. `grid` runs every combination and `search` asks Optuna for the
next ones (`space`, `study`, `pruning`); both are called by the Hydra sweepers in `hydra_plugins.oakleaf_sweepers`.
`job_runner` starts the process of a job, and `oakleaf.cli.sweep_job` is what it runs. `names` and `job_state` know what
jobs are called and how far they are; `ranking`, `report`, `sample_grid` and `wandb_report` make the report.

The package is above the core and below the commands: it may import `oakleaf.builder`, `oakleaf.runtime`,
`oakleaf.config` and `oakleaf.errors`, and only `oakleaf.cli` and the Hydra plugin import it. Importing it does not
import torch, and only the processes of jobs use a GPU.
"""
