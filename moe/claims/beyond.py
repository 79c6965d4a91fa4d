"""The claims on other data than MNIST: what travels.

docs/beyond-mnist.md says what is asked. The study on Fashion-MNIST is kept in results/fashion/.
"""

from moe.study.runs import Trial
from moe.study.tables import RESULTS_DIR

FASHION_DIR = RESULTS_DIR / "fashion"
# What routers look for is shown of these.
PICTURED = [Trial(recipe, ne, 2, 1.0) for recipe in ("blog", "logits") for ne in (4, 8)]
