"""Put an object of one picture into another: `python composite.py source=A target=B mask=M out=C`."""

from oakleaf.cli.commands import composite

if __name__ == "__main__":
    composite()
