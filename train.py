"""Train a GAN: `python train.py model=dcgan data=celeba`; `python train.py --help` names the choices."""

from oakleaf.cli.commands import train

if __name__ == "__main__":
    train()
