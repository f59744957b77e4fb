"""Translate a folder of pictures: `python translate.py checkpoint=RUN input=FOLDER out=FOLDER`."""

from oakleaf.cli.translate import main

if __name__ == "__main__":
    main()
