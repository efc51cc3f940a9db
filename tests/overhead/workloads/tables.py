"""Work with numpy and pandas, without end: groups, joins, sorts, and functions of Python called from C."""

import numpy as np
import pandas as pd

RANDOM = np.random.default_rng(7)


def made(rows: int) -> pd.DataFrame:
    """Return a table: a group of 50, a number, a text."""
    numbers = RANDOM.integers(0, 50, rows)
    return pd.DataFrame({"group": numbers, "value": RANDOM.random(rows), "text": [f"t{each % 9}" for each in numbers]})


def spread(values: pd.Series) -> float:
    """Return what pandas has no function for, so calls ours."""
    return float(values.max() - values.min())


def work(table: pd.DataFrame) -> float:
    """Do a bit of each."""
    grouped = table.groupby("group")["value"].agg(spread)
    joined = table.merge(grouped.rename("spread").reset_index(), on="group").sort_values(["text", "value"])
    matrix = joined["value"].to_numpy()[:10000].reshape(100, 100)
    return float(np.linalg.svd(matrix, compute_uv=False)[0]) + joined["text"].str.upper().nunique()


if __name__ == "__main__":
    while True:
        work(made(20_000))
