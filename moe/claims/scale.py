"""C16 and C19: the gain of more experts, and their cost."""

from moe.analysis.results import Tables
from moe.claims.claim import POINTS, Measured, Part, claim
from moe.claims.experts import PER_CENT, by_ne
from moe.model import costs
from moe.statistics import Estimate, all_of, paired

POINTS_PER_EXPERT = 0.05
MOSTLY_CONSTANT = 1.25


@claim(
    "C16",
    words="Each further expert brings less.",
    quote="With increasing number of experts, we eventually hit the point of diminishing returns.",
    measured="gain per added expert from 2 to 4 less that from 8 to 16, and the step from 12 to "
    "16; k = 2, lc = 1",
    margin="above 0.05 points per expert, and within ± 0.2 points",
)
def diminishing_returns(tables: Tables, recipe: str) -> Measured:
    accuracy = PER_CENT * by_ne(tables, recipe, "accuracy", (2, 4, 8, 12, 16))
    early, late = (accuracy[4] - accuracy[2]) / 2, (accuracy[16] - accuracy[8]) / 8
    last = (accuracy[16] - accuracy[12]).to_numpy()
    parts = [
        Part(
            "gain per expert from 2 to 4 less from 8 to 16",
            "points per expert",
            paired((early - late).to_numpy()),
            POINTS_PER_EXPERT,
        ),
        Part("12 → 16", "points", paired(last), within=(-POINTS, POINTS), resolution=POINTS),
    ]
    return Measured(parts, all_of)


@claim(
    "C19",
    words="Compute stays mostly constant while capacity grows.",
    quote="By limiting the computation to a fixed number of experts during any forward pass, the "
    "size can be increased while the computation stays constant (mostly).",
    measured="FLOPs per image at ne = 16 over those at ne = 2, k = 2; counted",
    margin="at most 1.25 times",
)
def constant_compute(tables: Tables, recipe: str) -> Measured:
    size = (tables.hidden, tables.dataset.in_features, len(tables.classes))
    flops = [costs.flops_per_sample(ne, 2, *size) for ne in (2, 16)]
    weights = [costs.parameters(ne, *size) for ne in (2, 16)]
    ratio = flops[1] / flops[0]
    holds = "holds" if ratio <= MOSTLY_CONSTANT else "does not hold here: the router is not free"
    counted = Estimate(ratio, ratio, ratio, seeds=0, error=0.0, freedom=0)
    return Measured(
        [Part("FLOPs at ne = 16 over those at ne = 2", "times", counted, MOSTLY_CONSTANT)],
        exact=f"FLOPs × {ratio:.2f}, parameters × {weights[1] / weights[0]:.1f} from ne = 2 to 16: "
        f"{holds}",
        beside={
            "flops per sample": {"ne = 2": flops[0], "ne = 16": flops[1]},
            "parameters": {"ne = 2": weights[0], "ne = 16": weights[1]},
            "flops ratio": ratio,
            "parameters ratio": weights[1] / weights[0],
        },
    )
