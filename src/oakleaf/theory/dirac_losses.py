"""The losses that the Dirac-GAN is played with: all of the framework's, put together as its recipes do."""

from collections.abc import Mapping

from oakleaf.losses.constraints import WeightClipping
from oakleaf.losses.loss import InstanceNoise, Loss
from oakleaf.losses.objectives import Hinge, NonSaturating, Relativistic, Saturating, Wasserstein
from oakleaf.losses.penalties import GradientPenalty

CLIP = 0.5  # below the start, so that it is felt
GP = 0.2  # below 1: from there on the damped system theta' = psi, psi' = -theta - 2 GP (psi - 1) ends at theta = 2 GP


def circling() -> Mapping[str, Loss]:
    """Those that do not converge: Mescheder 2018, arXiv:1801.04406, sections 2 and 3. DRAGAN's penalty
    (Kodali 2017, arXiv:1705.07215) has WGAN-GP's target of 1 and so its fault; hinge is linear near the equilibrium,
    as WGAN is."""
    clipping = {"clipping": WeightClipping(CLIP)}
    return {
        "saturating": Loss("saturating", Saturating()),
        "non-saturating": Loss("non-saturating", NonSaturating()),
        "hinge": Loss("hinge", Hinge()),
        "WGAN": Loss("WGAN", Wasserstein()),
        "WGAN, clipping": Loss("clipping", Wasserstein(), constraints=clipping),
        "WGAN-GP": Loss("WGAN-GP", Wasserstein(), penalties={"gp": GradientPenalty("between", GP, 1.0)}),
        "DRAGAN": Loss("DRAGAN", NonSaturating(), penalties={"gp": GradientPenalty("around", GP, 1.0)}),
    }


def converging(gamma: float, noise: float) -> Mapping[str, Loss]:
    """Those that do: section 3; for the relativistic one Huang 2024, arXiv:2501.05441, section 2.2."""
    r1 = {"r1": GradientPenalty("real", gamma / 2)}
    r2 = {"r2": GradientPenalty("fake", gamma / 2)}
    return {
        "instance noise": Loss("noise", NonSaturating(), instance_noise=InstanceNoise(noise)),
        "R1": Loss("R1", NonSaturating(), penalties=r1),
        "R2": Loss("R2", NonSaturating(), penalties=r2),
        "WGAN, R1": Loss("WGAN R1", Wasserstein(), penalties=r1),
        "RpGAN, R1, R2": Loss("RpGAN", Relativistic(), penalties={**r1, **r2}),
    }
