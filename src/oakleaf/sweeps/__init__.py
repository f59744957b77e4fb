"""Sweeps: many runs by one command, each in a process of its own, that end in a ranked table and go on where they were
stopped. Nothing here imports torch, except what runs inside a job's own process."""
