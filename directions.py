"""Find named directions in a generator's latents: `python directions.py checkpoint=RUN by=attributes`."""

from oakleaf.cli.commands import directions

if __name__ == "__main__":
    directions()
