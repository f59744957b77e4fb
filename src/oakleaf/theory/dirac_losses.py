"""The losses that are compared on the Dirac-GAN: all of the framework's, composed as in its configuration files."""

from collections.abc import Mapping

from oakleaf.losses.constraints import WeightClipping
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import Hinge, NonSaturating, Relativistic, Saturating, Wasserstein
from oakleaf.losses.penalties import GradientPenalty

CLIP = 0.5  # smaller than the start, so that clipping has an effect
# weight of the penalties with target 1; from 1 on, the damped system theta' = psi, psi' = -theta - 2 weight (psi - 1)
# comes to rest at theta = 2 weight instead of circling
PENALTY_WEIGHT = 0.2


def non_convergent_losses() -> Mapping[str, Loss]:
    """Return the losses under which the Dirac-GAN does not converge.

    DRAGAN's penalty (Kodali 2017, arXiv:1705.07215) has the target 1 of WGAN-GP, and so the same defect; the hinge loss
    is linear near the equilibrium, as that of WGAN is.

    Reference: Mescheder 2018, arXiv:1801.04406, sections 2 and 3.
    """
    clipping = {"clipping": WeightClipping(CLIP)}
    weight = PENALTY_WEIGHT
    return {
        "saturating": Loss("saturating", Saturating()),
        "non-saturating": Loss("non-saturating", NonSaturating()),
        "hinge": Loss("hinge", Hinge()),
        "WGAN": Loss("WGAN", Wasserstein()),
        "WGAN, clipping": Loss("clipping", Wasserstein(), constraints=clipping),
        "WGAN-GP": Loss("WGAN-GP", Wasserstein(), penalties={"gp": GradientPenalty("between", weight, 1.0)}),
        "DRAGAN": Loss("DRAGAN", NonSaturating(), penalties={"gp": GradientPenalty("around", weight, 1.0)}),
    }


def convergent_losses(gamma: float) -> Mapping[str, Loss]:
    """Return the losses under which the Dirac-GAN converges.

    Args:
        gamma: of R1 and R2.

    Reference: Mescheder 2018, arXiv:1801.04406, section 3; for the relativistic loss Huang 2024, arXiv:2501.05441,
    section 2.2.
    """
    r1 = {"r1": GradientPenalty("real", gamma / 2)}
    r2 = {"r2": GradientPenalty("fake", gamma / 2)}
    return {
        "R1": Loss("R1", NonSaturating(), penalties=r1),
        "R2": Loss("R2", NonSaturating(), penalties=r2),
        "WGAN, R1": Loss("WGAN R1", Wasserstein(), penalties=r1),
        "RpGAN, R1, R2": Loss("RpGAN", Relativistic(), penalties={**r1, **r2}),
    }
