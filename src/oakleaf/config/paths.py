"""Where the configuration lies."""

from pathlib import Path


def conf_dir() -> Path:
    """The configuration: `conf/` of a checkout or an editable install, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"
