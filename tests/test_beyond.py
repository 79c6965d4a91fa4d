"""Claims on data other than MNIST, on hand-made tables and against a slow loop."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe.analysis.kept import read_kept, write_kept
from moe.analysis.results import MissingCellsError, Tables, read_tables
from moe.claims import CLAIMS
from moe.claims.beyond import PICTURED, compared
from moe.claims.general import GENERAL, meetings, most_confused
from moe.claims.judge import judge
from moe.data.info import DatasetInfo
from moe.figures import FIGURES, beyond
from moe.study.grid import runs_of
from moe.study.params import read_params
from moe.study.runs import RUN_KEYS

ROOT = Path(__file__).parent.parent
CLASSES = 5
NOTHING = pd.DataFrame()
INFO = DatasetInfo("five", "five", "class", "classes", tuple("abcde"), None, 100, lambda a, b: None)


def tables(
    confusion: list[dict] | None = None, slots: list[dict] | None = None, runs: list | None = None
) -> Tables:
    empty = pd.DataFrame(columns=[*RUN_KEYS, *accuracies(None)])
    frames = [pd.DataFrame(rows) if rows else empty for rows in (runs, confusion, slots)]
    return Tables(
        *(Path(), 10, frames[0], NOTHING, frames[1], frames[2], NOTHING, NOTHING), dataset=INFO
    )


def key(recipe: str, ne: int, k: int, seed: int) -> dict:
    return {"recipe": recipe, "ne": ne, "k": k, "lc": 1.0, "seed": seed}


def base_confusion(pairs: dict[tuple[int, int], int], seeds: int = 3) -> list[dict]:
    """100 images of each class; pairs: how many of class a are predicted as b."""
    rows = []
    for seed, true in itertools.product(range(seeds), range(CLASSES)):
        wrong = {b: n for (a, b), n in pairs.items() if a == true}
        counts = {b: wrong.get(b, 0) for b in range(CLASSES)}
        counts[true] = 100 - sum(wrong.values())
        predicted = {f"predicted_{b}": n for b, n in counts.items()}
        rows.append({**key("blog", 1, 1, seed), "digit": true, **predicted})
    return rows


def test_the_most_confused_triple_by_hand() -> None:
    # {0, 2, 4}: 10 + 7 + 6 = 23, over both directions of its pairs; {0, 1, 2}: 20 + 10 = 30 no
    # more than {1, 2, 3} with 20 + 15 = 35, though its largest pair is that of {0, 1, 2}.
    pairs = {(0, 2): 10, (2, 4): 4, (4, 2): 3, (4, 0): 6, (1, 2): 12, (2, 1): 8, (3, 1): 15}
    assert most_confused(tables(base_confusion(pairs)), "blog") == (1, 2, 3)
    assert most_confused(tables(base_confusion({**pairs, (4, 0): 40})), "blog") == (0, 2, 4)


def random_slots(seeds: int, together: tuple[int, ...] = ()) -> list[dict]:
    """Random counts; the classes in `together` mostly go to expert 0."""
    rng, rows = np.random.default_rng(0), []
    for ne, seed in itertools.product((2, 3, 4), range(seeds)):
        counts = rng.integers(0, 100, (ne, CLASSES))
        counts[0, list(together)] += 80
        for expert in range(ne):
            of = {f"digit_{label}": int(counts[expert, label]) for label in range(CLASSES)}
            rows.append({**key("blog", ne, 2, seed), "expert": expert, **of})
    return rows


def test_meetings_against_a_loop() -> None:
    slots = random_slots(6)
    found = meetings(tables(slots=slots), "blog")
    assert set(found.index) == set(itertools.product(range(6), (3, 4)))  # at ne = 2 all are equal
    hits = 0
    for seed, ne in found.index:
        rows = [r for r in slots if (r["seed"], r["ne"]) == (seed, ne)]
        for triple in itertools.combinations(range(CLASSES), 3):
            first = {max(rows, key=lambda r, c=c: r[f"digit_{c}"])["expert"] for c in triple}
            assert found.loc[(seed, ne), [triple]].item() == (len(first) == 1)
            hits += len(first) == 1
    assert hits > 0


@pytest.mark.parametrize(
    ("together", "verdict"), [((1, 2, 3), "reproduced"), ((0, 1, 4), "contradicted")]
)
def test_the_most_confused_classes_meet_or_do_not(together: tuple, verdict: str) -> None:
    confusion = base_confusion({(1, 2): 10, (2, 3): 10})
    results = judge(GENERAL, tables(confusion, random_slots(12, together)))
    (result,) = [r for r in results if (r["id"], r["recipe"]) == ("G14", "blog")]
    assert result["beside"]["triple"] == ["b", "c", "d"]
    assert result["verdict"] == verdict


def base_runs(lost: dict[str, int], seeds: int = 20) -> list[dict]:
    """lost: how many seeds of each recipe, from the first, lose class 3."""
    return [
        {**key(recipe, 1, 1, seed), **accuracies(3 if seed < count else None)}
        for recipe, count in lost.items()
        for seed in range(seeds)
    ]


def accuracies(lost: int | None) -> dict[str, float]:
    return {f"accuracy_{label}": 0.2 if label == lost else 0.9 for label in range(CLASSES)}


@pytest.mark.parametrize(
    ("blog", "logits", "alone", "verdict"),
    [(12, 0, 12, "reproduced"), (12, 9, 3, "open"), (4, 9, 0, "open"), (0, 0, 0, "open")],
)
def test_the_double_softmax_loses_classes_or_does_not(
    blog: int, logits: int, alone: int, verdict: str
) -> None:
    found = tables(runs=base_runs({"blog": blog, "logits": logits}))
    (result,) = [r for r in judge(GENERAL, found) if r["id"] == "G8"]
    assert result["estimate"] == alone / 20
    assert result["beside"]["blog"]["share"] == blog / 20
    assert result["verdict"] == verdict


def test_general_forms_are_no_claims_of_the_confirmatory_study() -> None:
    assert not {claim.id for claim in GENERAL} & {claim.id for claim in CLAIMS}


def test_the_study_has_the_cells_of_the_exploratory_one_with_20_seeds() -> None:
    fashion, default = (read_params(ROOT / n) for n in ("studies/fashion.yaml", "params.yaml"))
    runs = runs_of(fashion.sweeps)
    assert {run.trial for run in runs} == {run.trial for run in runs_of(default.sweeps)}
    assert {run.seed for run in runs} == set(range(20))
    assert len(runs) == 20 * len({run.trial for run in runs}) == 3540
    assert (fashion.train, fashion.analyze) == (default.train, default.analyze)
    assert {run.trial for run in runs} >= set(PICTURED)


def test_what_is_kept_of_a_study_reads_back(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    shutil.copytree(ROOT / "results", study / "results")
    shutil.copyfile(ROOT / "params.yaml", study / "params.yaml")
    write_kept(study, tmp_path / "kept", PICTURED)
    kept = read_kept(tmp_path / "kept")
    assert kept is not None
    assert kept.params == read_params(ROOT / "params.yaml")
    assert set(kept.tables.slots["k"]) == {2}
    assert set(kept.tables.slots["lc"]) == {1.0}
    assert set(kept.tables.confusion["ne"]) == {1}
    assert len(list((tmp_path / "kept/pictures").iterdir())) == len(PICTURED)
    assert read_kept(tmp_path) is None


@pytest.mark.parametrize(
    ("here", "there", "travels"),
    [
        ("reproduced", "reproduced", "yes"),
        ("exact", "exact", "yes"),
        ("reproduced", "contradicted", "no"),
        ("depends on the measure", "contradicted", "no"),
        ("open", "open", "undecided"),
        ("reproduced", "at the margin", "undecided"),
        ("not measured", "contradicted", "undecided"),
    ],
)
def test_what_travels(here: str, there: str, travels: str) -> None:
    def result(name: str, verdict: str) -> dict:
        return {"id": name, "claim": "words", "recipe": "blog", "verdict": verdict}

    mnist = [result("C7", "contradicted"), result("C1", here)]
    (row,) = compared(mnist, [result("C1", there)])  # C7 is not asked there
    assert (row["id"], row["here"]["verdict"], row["there"]["verdict"]) == ("C1", here, there)
    assert row["travels"] == travels


def test_points_of_the_figure_by_hand() -> None:
    """Within the seed: seed 0 has 0.80, 0.82 and 0.85; seed 1 has 0.60, 0.66 and 0.61."""
    accuracy = {(1, 1.0): (0.8, 0.6), (4, 0.0): (0.82, 0.66), (4, 1.0): (0.85, 0.61)}
    runs = [
        {**key("blog", ne, min(ne, 2), seed), "lc": lc, "accuracy": value}
        for (ne, lc), values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    found = tables()._replace(runs=pd.DataFrame(runs))
    lc = beyond.over_lc(found).set_index("lc")
    assert lc.loc[1.0, "mean"] == pytest.approx((3 - 5) / 2)
    assert lc.loc[0.0, "mean"] == 0
    (ne,) = beyond.over_ne(found).to_dict("records")
    assert (ne["recipe"], ne["k"], ne["ne"]) == ("blog", 2, 4)
    assert ne["mean"] == pytest.approx((5 + 1) / 2)
    with pytest.raises(MissingCellsError, match="make fashion"):
        beyond.beyond_mnist(found)


def test_lost_classes_are_drawn_as_the_tables_count_them() -> None:
    kept = read_kept(ROOT / "results/fashion")
    if kept is None:
        pytest.fail("results/fashion has no tables")
    here = read_tables(ROOT / "results", hidden=10)._replace(beyond=kept.tables)
    drawn = FIGURES["beyond-mnist"].of(here).drawn
    assert drawn is not None
    axes = np.reshape(drawn.drawing.axes, (2, 3))
    for ax, folder in zip(axes[:, 2], ("results", "results/fashion"), strict=True):
        table = pd.read_csv(ROOT / folder / "confusion.csv")
        shares = []
        for recipe in ("blog", "logits"):
            lost: dict[int, bool] = {}
            for row in table[(table["recipe"] == recipe) & (table["ne"] == 1)].to_dict("records"):
                counts = [row[f"predicted_{c}"] for c in range(10)]
                right = counts[int(row["digit"])] / sum(counts)
                lost[row["seed"]] = lost.get(row["seed"], False) or right < 0.5
            shares.append(100 * sum(lost.values()) / len(lost))
        points = [y for line in ax.lines for y in np.asarray(line.get_ydata(), float).ravel()]
        low, high = ax.get_ylim()
        for share in shares:
            assert any(y == pytest.approx(share) for y in points)
            assert low <= share <= high
