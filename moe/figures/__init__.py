"""The figures of the report: functions from a study's tables to drawings.

All functions in this folder with the decorator `figure` are found automatically. drawn: the types;
style: colours and shared plot functions; the other files: figures by subject.
"""

import pkgutil
from importlib import import_module

from moe.analysis.results import Tables
from moe.figures.drawn import FIGURES, Figure, figure, ref, with_numbers

__all__ = ["FIGURES", "Figure", "Tables", "all_figures", "figure", "ref", "with_numbers"]

for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")


def all_figures(tables: Tables) -> list[Figure]:
    """Every figure, drawn or with the cells that it lacks, in declared order."""
    declared = sorted(FIGURES.values(), key=lambda one: (one.order, one.slug))
    return [one.of(tables) for one in declared]
