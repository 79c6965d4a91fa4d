"""The figures of the report: finished tables in, one drawing each out.

Every function of this folder that is decorated with `figure` is found by itself. drawn: what a
figure is; style: colours and the few ways of plotting; the other files: figures by subject.
"""

import pkgutil
from importlib import import_module

from moe.analysis.results import Tables
from moe.figures.drawn import FIGURES, Figure, figure, ref, with_numbers

__all__ = ["FIGURES", "Figure", "Tables", "all_figures", "figure", "ref", "with_numbers"]

for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")


def all_figures(tables: Tables) -> list[Figure]:
    """Every figure, drawn or with what it needs, in the order that the figures declare."""
    declared = sorted(FIGURES.values(), key=lambda one: (one.order, one.slug))
    return [one.of(tables) for one in declared]
