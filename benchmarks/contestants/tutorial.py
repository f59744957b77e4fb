"""The loop that everybody starts from: python tutorial.py FOLDER BATCH [WIDTH]

DCGAN as the PyTorch tutorial trains it: pictures decoded by two worker processes in every epoch, fp32, contiguous,
Adam, and the losses read from the device at every step. Networks of `model=dcgan`'s sizes.
"""

import sys

import torch
import torchvision.transforms as transforms
from beat import beat
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

LATENT, IMAGE = 100, 64


def weights(module: nn.Module) -> None:
    name = module.__class__.__name__
    if "Conv" in name:
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif "BatchNorm" in name:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def generator(width: int) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = LATENT
    for outputs, stride, padding in ((8 * width, 1, 0), (4 * width, 2, 1), (2 * width, 2, 1), (width, 2, 1)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(True))
        inputs = outputs
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())


def discriminator(width: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for inputs in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(inputs, 2 * inputs, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * inputs)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0))


def main() -> None:
    folder, batch, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 64
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = [transforms.Resize(IMAGE), transforms.CenterCrop(IMAGE), transforms.ToTensor()]
    data = ImageFolder(folder, transforms.Compose([*steps, transforms.Normalize((0.5,) * 3, (0.5,) * 3)]))
    loader: DataLoader[torch.Tensor] = DataLoader(data, batch, shuffle=True, num_workers=2)
    G, D = generator(width).apply(weights).to(device), discriminator(width).apply(weights).to(device)
    criterion = nn.BCELoss()
    steps_d = torch.optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))
    steps_g = torch.optim.Adam(G.parameters(), 2e-4, (0.5, 0.999))
    while True:
        for real, _ in loader:
            D.zero_grad()
            real = real.to(device)
            label = torch.ones(len(real), device=device)
            error_real = criterion(D(real), label)
            error_real.backward()
            fake = G(torch.randn(len(real), LATENT, 1, 1, device=device))
            error_fake = criterion(D(fake.detach()), label * 0)
            error_fake.backward()
            steps_d.step()
            G.zero_grad()
            error = criterion(D(fake), label)
            error.backward()
            steps_g.step()
            (error_real + error_fake).item(), error.item()
            beat()


if __name__ == "__main__":
    main()
