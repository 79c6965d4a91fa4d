"""The figures of the report: finished tables in, one drawing each out.

style: colours and the few ways of plotting; sweeps: effects of lc and k; classes: accuracy and
confusion by digit; experts: who gets what; layer: the drawing of the layer; routers: all recipes
side by side; speed: what a step costs. `all_figures` has them in order.
"""

from collections.abc import Iterator

from moe.analysis.results import Tables
from moe.figures import classes, experts, layer, routers, speed, sweeps
from moe.figures.style import Figure

__all__ = ["Figure", "Tables", "all_figures"]

MAKERS = (
    layer.the_layer,
    sweeps.effect_of_lc_on_accuracy,
    sweeps.effect_of_lc_on_gate_loss,
    sweeps.effect_of_lc_on_network_loss,
    sweeps.effect_of_k,
    classes.accuracy_by_class,
    classes.confusion_of_the_base,
    classes.confusion_of_experts,
    experts.who_gets_what,
    experts.what_routers_look_for,
    experts.specialisation,
    sweeps.balance,
    experts.coactivation,
    sweeps.capacity_and_compute,
    classes.fingerprint,
    routers.routers_side_by_side,
    speed.what_a_step_costs,
)


def all_figures(tables: Tables) -> Iterator[Figure]:
    """Every figure whose cells the study has, in the order of their numbers."""
    for make in MAKERS:
        figure = make(tables)
        if figure is not None:
            yield figure
