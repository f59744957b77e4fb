"""What happens beside the game: watching, sampling, scoring, saving.

`score.Score` is not brought up here: it imports every measure, and most runs need none.
"""

from oakleaf.callbacks.checkpoint import Checkpoint
from oakleaf.callbacks.compiling import Compiling
from oakleaf.callbacks.interruption import Interruption
from oakleaf.callbacks.log_scalars import LogScalars
from oakleaf.callbacks.profile import Profile
from oakleaf.callbacks.progress import Progress
from oakleaf.callbacks.samples import Samples
from oakleaf.callbacks.training_monitor import TrainingMonitor

__all__ = ["Checkpoint", "Compiling", "TrainingMonitor", "Interruption", "Profile", "Progress", "Samples", "LogScalars"]
