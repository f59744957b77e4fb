"""What happens beside the game: watching, sampling, scoring, saving.

`score.Score` is not brought up here: it imports every measure, and most runs need none.
"""

from oakleaf.callbacks.checkpoint import Checkpoint
from oakleaf.callbacks.compiling import Compiling
from oakleaf.callbacks.interruption import Interruption
from oakleaf.callbacks.log_scalars import Watch
from oakleaf.callbacks.profile import Profile
from oakleaf.callbacks.progress import Progress
from oakleaf.callbacks.samples import Samples
from oakleaf.callbacks.training_monitor import Health

__all__ = ["Checkpoint", "Compiling", "Health", "Interruption", "Profile", "Progress", "Samples", "Watch"]
