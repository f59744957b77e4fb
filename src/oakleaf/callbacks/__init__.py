"""Lightning callbacks: everything that a run does besides its training steps.

| class | what it does |
|---|---|
| `Interruption` | saves and ends the run on SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU and Ctrl-C |
| `LogScalars` | logs losses, accuracies and gradient norms every `log_every` iterations |
| `TrainingMonitor` | checks samples and scalars for failures of GAN training, and raises alarms |
| `Overfitting` | scores held-out images beside training images (`callbacks=overfitting`) |
| `Report` | writes `report.html` during the run, and `curves.png` at its end |
| `Samples` | draws a sample grid from fixed latents, and joins the grids to an animation |
| `Checkpoint` | saves `checkpoints/last.ckpt` |
| `Compiling` | compiles the players' losses with `torch.compile` |
| `ExpectedDuration` | says after the first seconds how long the run takes |
| `Progress` | shows a progress bar |
| `Profile` | records a few iterations with torch's profiler |

`conf/callbacks/default.yaml` lists them in the order in which Lightning calls them, except that it calls `checkpoint`
last. `Evaluate` (`callbacks=scored`) is
not imported here: it imports every metric, and most runs need none.
"""

from oakleaf.callbacks.checkpoint import Checkpoint
from oakleaf.callbacks.compiling import Compiling
from oakleaf.callbacks.expected_duration import ExpectedDuration
from oakleaf.callbacks.interruption import Interruption
from oakleaf.callbacks.log_scalars import LogScalars
from oakleaf.callbacks.overfitting import Overfitting
from oakleaf.callbacks.profile import Profile
from oakleaf.callbacks.progress import Progress
from oakleaf.callbacks.report import Report
from oakleaf.callbacks.samples import Samples
from oakleaf.callbacks.training_monitor import TrainingMonitor

__all__ = [
    "Checkpoint",
    "Compiling",
    "ExpectedDuration",
    "Interruption",
    "LogScalars",
    "Overfitting",
    "Profile",
    "Progress",
    "Report",
    "Samples",
    "TrainingMonitor",
]
