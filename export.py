"""Export a trained generator: `python export.py checkpoint=RUN format=onnx`; `python export.py --help` has the rest."""

from oakleaf.cli.commands import export

if __name__ == "__main__":
    export()
