"""What every run needs and no GAN is special for: seeds, processes, memory, files of a run, checkpoints on disk, loggers, running means and the
guard against non-finite steps."""
