"""What a run needs independently of what it trains.

`seeds` derives all random streams; `distributed` and `sync_batchnorm` are for several processes; `nonfinite` guards
steps against NaN and `memory` against networks and batches that do not fit; `run_dir` and `checkpoint_io` know a run's
files; `loggers` and `running_means` are for the logged scalars and images; `threads` sets the threads of the CPU.

The package may import `oakleaf.config`, `oakleaf.errors`, torch and Lightning. It knows no game, no loss, no data set
and no command. `run_dir`, `threads` and this file do not import torch, since they are needed before torch is imported.
"""
