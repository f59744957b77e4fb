"""Named directions of a generator's latents: by a judge of its images, by its weights, or by its first features.

They are stored beside the checkpoint in `directions.json`; `sample.py mode=edit` and `explore.py` read them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write, run_dir_of
from oakleaf.sampling.directions import BATCH

FILE = "directions.json"
HELD_OUT = 5  # each fifth latent is held out, to measure how well a direction separates
FEWEST = 10  # latents on each side of an attribute, at least


class Direction(NamedTuple):
    """A direction in latent space.

    Attributes:
        name: such as `Smiling`.
        vector: of length 1, [d]; along it the attribute becomes more likely.
        by: how it was found: attributes, classifier, pca, sefa.
        measured: numbers about it: `accuracy` of its half-spaces on held-out latents, `positive` share of samples with
            the attribute, `share` of the variance.
        checkpoint: hash of the checkpoint that it was found for.
    """

    name: str
    vector: Tensor
    by: str
    measured: Mapping[str, float]
    checkpoint: str = ""


# ---- by a judge ------------------------------------------------------------------------------------------------------


def logistic_normal(z: Tensor, positive: Tensor, decay: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression of a binary attribute, and return the normal of its plane.

    Minimises mean log(1 + exp(-s (w . z + b))) + decay |w|^2 / 2 with s = 1 or -1; the problem is convex.

    Args:
        z: [N, d].
        positive: whether each has the attribute [N], bool.
        decay: weight of the squared norm.

    Returns:
        w [d] and b [].

    Reference: Shen 2019 (InterFaceGAN), arXiv:1907.10786, section 2.2, with a logistic loss in place of the hinge.
    """
    z, sign = z.double(), positive.double() * 2 - 1
    parameters = torch.zeros(z.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        margins = sign * (z @ parameters[:-1] + parameters[-1])
        loss = nn.functional.softplus(-margins).mean() + 0.5 * decay * parameters[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    found = parameters.detach()
    return found[:-1].float(), found[-1].float()


def judged_directions(
    latents: Tensor, logits: Tensor, names: Sequence[str], by: str, share: float = 0.02
) -> tuple[list[Direction], list[str]]:
    """Return a direction for each attribute: the normal of the plane that separates latents with it from those without.

    It is fitted to the latents of which the judge is the most certain.

    Args:
        latents: [N, d].
        logits: how sure the judge is that the image of each latent has each attribute [N, K]; 0 is undecided.
        names: of the attributes.
        by: see `Direction`.
        share: of all latents that are used on each side.

    Returns:
        The directions, and the names of attributes that too few or nearly all samples have.
    """
    held_out = torch.arange(len(latents)) % HELD_OUT == 0
    z, judged, count = latents[~held_out], logits[~held_out], max(FEWEST, round(share * len(latents)))
    found, left_out = [], []
    for number, name in enumerate(names):
        order = judged[:, number].argsort()
        low, high = order[:count], order[-count:]
        if 2 * count > len(z) or judged[low, number].max() >= 0 or judged[high, number].min() <= 0:
            left_out.append(name)
            continue
        rows, positive = torch.cat([low, high]), torch.arange(2 * count) >= count
        weight, bias = logistic_normal(z[rows], positive)
        decided = (latents[held_out] @ weight + bias > 0) == (logits[held_out, number] > 0)
        measured = {
            "accuracy": float(decided.float().mean()),
            "positive": float((logits[:, number] > 0).float().mean()),
        }
        found.append(Direction(name, weight / weight.norm(), by, measured))
    return found, left_out


def one_against_the_rest(logits: Tensor) -> Tensor:
    """Return the log-odds of each class against all others, [N, K], from a classifier's logits [N, K]."""
    total = torch.logsumexp(logits, 1, keepdim=True)
    return logits - (total + torch.log1p(-(logits - total).exp().clamp(max=1 - 1e-6)))


def without(direction: Tensor, others: Tensor) -> Tensor:
    """Return a direction [d] without its parts along other directions [K, d], of length 1.

    Along it the planes of the others are not crossed (conditional manipulation).

    Raises:
        UserError: nothing of it is left.

    Reference: Shen 2019, arXiv:1907.10786, section 2.3, for several conditions by their orthonormal basis.
    """
    basis = torch.linalg.qr(others.T.double())[0]
    left = direction.double() - basis @ (basis.T @ direction.double())
    if left.norm() < 1e-3 * direction.norm():
        raise UserError("keep=: the direction is the same as those that should be kept; name fewer of them")
    return (left / left.norm()).float()


# ---- by the generator ------------------------------------------------------------------------------------------------


def sefa_directions(generator: nn.Module, run: Callable[[], Any], width: int, count: int) -> list[Direction]:
    """Return the directions that the weights of the generator's first layer amplify the most.

    They are the eigenvectors of A^T A, where A maps latents to the layer's output.

    Args:
        generator: the network.
        run: generates an image, so that the order of the layers can be observed.
        width: d, the length of a latent; the layer's other inputs, such as a condition, come behind.
        count: how many.

    Raises:
        UserError: the first layer with weights is neither linear nor a convolution of a map of one pixel.

    Reference: Shen & Zhou 2020 (SeFa), arXiv:2007.06600, eq. (6).
    """
    layer = first_layer(generator, run, lambda module: isinstance(getattr(module, "weight", None), Tensor))
    weight = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        matrix = weight
    elif isinstance(layer, nn.ConvTranspose2d):
        matrix = weight.flatten(1).T
    elif isinstance(layer, nn.Conv2d):
        matrix = weight.transpose(0, 1).flatten(1).T
    else:
        raise UserError(f"by=sefa: the generator's first layer is a {type(layer).__name__}, and should be linear")
    if matrix.shape[1] < width:
        raise UserError(f"by=sefa: the generator's first layer has {matrix.shape[1]} inputs, and a latent {width}")
    values, vectors = torch.linalg.eigh(matrix[:, :width].T.double() @ matrix[:, :width].double())
    return _ranked("sefa", values.flip(0), vectors.flip(1).T, count)


def pca_directions(
    generator: nn.Module, generate: Callable[[Tensor], Any], latents: Tensor, count: int
) -> list[Direction]:
    """Return the latent directions of the principal components of the generator's first activations.

    The components are those of the output of its first activation function; each latent direction is the least-squares
    solution for latents by the coordinates along a component.

    Args:
        generator: the network.
        generate: generates images of latents [B, d].
        latents: [N, d], more than d.
        count: how many.

    Raises:
        UserError: the generator has no activation function.

    Reference: Harkonen 2020 (GANSpace), arXiv:2004.02546, section 2.2, eq. (4).
    """
    is_activation = lambda module: type(module).__module__ == "torch.nn.modules.activation"  # noqa: E731
    layer = first_layer(generator, lambda: generate(latents[:1]), is_activation)
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output.flatten(1).float().cpu()))
    try:
        for part in latents.split(BATCH):
            generate(part)
    finally:
        handle.remove()
    features = torch.cat(outputs).double()
    features = features - features.mean(0)
    z = (latents - latents.mean(0)).double()
    _, values, components = torch.svd_lowrank(features, q=min(2 * count + 8, *features.shape), niter=4)
    coordinates = features @ components  # [N, q]
    vectors = (coordinates.T @ z) / coordinates.square().sum(0).clamp(min=1e-12)[:, None]
    total = features.square().sum()
    found = _ranked("pca", values.square(), vectors, count)
    return [one._replace(measured={"share": float(v.square() / total)}) for one, v in zip(found, values)]


def first_layer(generator: nn.Module, run: Callable[[], Any], fits: Callable[[nn.Module], bool]) -> Any:
    """Return the first module without submodules that runs in the generator and fits.

    Raises:
        UserError: there is none.
    """
    ran: list[nn.Module] = []
    leaves = [module for module in generator.modules() if not any(True for _ in module.children())]
    parametrised = [module for module in generator.modules() if hasattr(module, "parametrizations")]
    handles = [
        module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in [*leaves, *parametrised]
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found = next((module for module in ran if fits(module)), None)
    if found is None:
        raise UserError("the generator of this checkpoint has no layer of the kind that is needed; try another by=")
    return found


def _ranked(by: str, values: Tensor, vectors: Tensor, count: int) -> list[Direction]:
    """Return the first vectors [K, d], each of length 1 and with its largest coordinate positive."""
    shares, found = values / values.sum().clamp(min=1e-12), []
    for number, vector in enumerate(vectors[:count]):
        unit = vector / vector.norm().clamp(min=1e-12)
        unit = unit * torch.sign(unit[unit.abs().argmax()])
        found.append(Direction(f"{by}{number + 1}", unit.float(), by, {"share": float(shares[number])}))
    return found


# ---- files -----------------------------------------------------------------------------------------------------------


def file_of(checkpoint: Path) -> Path:
    """Return the file of the directions of a checkpoint."""
    return run_dir_of(checkpoint) / FILE


def save(file: Path, directions: Sequence[Direction]) -> None:
    """Write directions to a file; those of the same names in it are replaced, all others stay."""
    known = {one.name: one for one in load(file)} if file.is_file() else {}
    known |= {one.name: one for one in directions}
    content = [{**one._asdict(), "vector": [round(x, 7) for x in one.vector.tolist()]} for one in known.values()]
    with atomic_write(file) as part:
        part.write_text(json.dumps({"directions": content}, indent=1) + "\n")


def load(file: Path) -> list[Direction]:
    """Read directions.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not file.is_file():
        raise UserError(f"{file.parent} has no {FILE}: python directions.py checkpoint={file.parent} makes it")
    try:
        rows = json.loads(file.read_text())["directions"]
        found = [Direction(**{**row, "vector": torch.tensor(row["vector"], dtype=torch.float32)}) for row in rows]
        if any(one.vector.dim() != 1 or not one.vector.isfinite().all() for one in found):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: python directions.py makes it again") from error
    return found


def choose(
    directions: Sequence[Direction], names: Sequence[str], file: Path, key: str = "direction"
) -> list[Direction]:
    """Return directions by name.

    Raises:
        UserError: there is none of a name.
    """
    known = {one.name: one for one in directions}
    for name in names:
        if name not in known:
            listed = ", ".join(list(known)[:50])
            raise UserError(f"{key}={name}: {file} has no such direction; it has {listed}")
    return [known[name] for name in names]
