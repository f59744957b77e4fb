"""Where the configuration files are."""

from pathlib import Path


def conf_dir() -> Path:
    """Return the folder `conf/`: that of a checkout or editable install, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"
