"""Translate a folder of pictures: `python translate.py checkpoint=RUN input=FOLDER out=FOLDER`."""

from oakleaf.cli.commands import translate

if __name__ == "__main__":
    translate()
