"""Which click judgments to trust: ``python -m benchmarks.clicks``; the result goes to benchmarks/results/clicks.json.

Seeded: the same numbers wherever it runs.
"""

from __future__ import annotations

from typing import get_args

from benchmarks.clicks.compare import compare
from benchmarks.clicks.simulate import Shop, Users
from benchmarks.machine import write_result

RANKERS = {"random": 0.0, "weak": 0.3, "fair": 0.8, "strong": 2.5}
MIXING = {"fixed": 0.0, "little": 0.3, "much": 1.0}
SETTING = ("num_queries", "num_docs", "num_shown", "num_searches", "seed")


def main() -> None:
    rows = []
    for users in get_args(Users):
        for ranker, skill in RANKERS.items():
            for mixing, shuffle in MIXING.items():
                row = compare(Shop(users, skill, shuffle))
                rows.append({"users": users, "ranker": ranker, "positions": mixing} | row)
                taus = "  ".join(f"{name} {row[name]['mean']:.3f}" for name in ("ctr", "coec", "pbm"))
                print(f"{users:9}{ranker:8}{mixing:8}{taus}  {_shown('coec', row)}  {_shown('pbm', row)}", flush=True)
    shop = Shop("position")
    result = {
        "what": "Kendall's tau-b of click scores with the true grades: mean over queries, 95 % bootstrap interval",
        "command": "python -m benchmarks.clicks",
        "rankers": {name: f"{skill} a grade, error of deviation 1" for name, skill in RANKERS.items()},
        "positions": {name: f"scores change by deviation {shuffle} a search" for name, shuffle in MIXING.items()},
        "setting": {name: getattr(shop, name) for name in SETTING} | {"min_impressions": 20},
        "rows": rows,
    }
    print(write_result("clicks", result, ["numpy", "scipy"]))


def _shown(method: str, row: dict[str, dict[str, float]]) -> str:
    gain = row[f"{method} - ctr"]
    return f"{method} - ctr {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


if __name__ == "__main__":
    main()
