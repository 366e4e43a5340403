"""How often retrieval finds what answers the question, through the real product over HTTP.

python -m bench.quality --data ../shared/eval                      # every set
python -m bench.quality --sets squad squad2 --every 5              # every fifth question
python -m bench.quality --keep /tmp/q --against before.json        # documents stay; compare
python -m bench.quality --compare before.json after.json           # two recorded runs
python -m bench.quality --own --record tests/data/quality/recorded.json   # what the test compares

Prints hit@k, MRR@10 and nDCG@10 with 95 % intervals (bootstrap over questions), for each stage of
the pipeline and for the results. With a comparison it exits with 1 when a measure of the results
is worse: p < 0.05 in the sign test, and the paired interval of the difference below 0.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.product import require_data, running_product
from bench.quality.comparing import changes, compare
from bench.quality.own import OWN, read_own
from bench.quality.plot import plot_svg
from bench.quality.records import FINAL, Record, read_record, update_record
from bench.quality.report import (
    answerability_lines,
    area_lines,
    calibration_lines,
    comparison_lines,
    figures_by_set,
    goal_lines,
    markdown_table,
    stage_lines,
)
from bench.quality.running import run
from bench.quality.sets import FILES, Corpus, read_corpora

_LIBRARIES = "libraries.json"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.compare:
        before, after = (read_record(path) for path in options.compare)
        return show_comparison(before, after, options)
    record = measure(options)
    show(record, options)
    if options.against:
        return show_comparison(read_record(options.against), record, options)
    return 0


def measure(options: argparse.Namespace) -> Record:
    """Run the product and ask every set, or read an earlier run."""
    if options.read:
        return read_record(options.read)
    corpora = _corpora(options)
    settings = dict(pair.split("=", 1) for pair in options.settings)
    kept = None
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        kept = options.keep / _LIBRARIES
        settings["DATA_DIR"] = str((options.keep / "data").resolve())
    # A run takes longer than a sign-in lasts by default.
    defaults = {"LOG_LEVEL": "WARNING", "ACCESS_TOKEN_EXPIRE_MINUTES": "1440"}
    with running_product(**(defaults | settings)) as product:
        return run(product.client, corpora, kept=kept)


def show(record: Record, options: argparse.Namespace) -> None:
    figures = figures_by_set(record)
    _print(stage_lines(record, figures))
    print()
    _print(goal_lines(figures))
    print()
    _print(answerability_lines(record))
    print()
    _print(calibration_lines(record))
    if options.record:
        update_record(options.record, record)
    if options.table:
        _write(options.table, markdown_table(record, figures))
    if options.plot:
        _write(options.plot, plot_svg(record, figures))


def show_comparison(before: Record, after: Record, options: argparse.Namespace) -> int:
    """Print the comparison; 1 when anything is worse, else 0."""
    if options.changes:
        print()
        for name, question_id, old, new in changes(before, after, stage=options.stage):
            print(f"{name} {question_id}: {list(old)} -> {list(new)}")
    comparisons = compare(before, after, stage=options.stage)
    print()
    _print(comparison_lines(comparisons))
    _print(area_lines(before, after))
    return int(any(one.is_worse for one in comparisons))


def _corpora(options: argparse.Namespace) -> list[Corpus]:
    files = sorted({file for name in options.sets for file in FILES.get(name, ())})
    require_data(options.data, *files)
    own = [read_own()] if OWN in options.sets else []
    return own + read_corpora(options.data, options.sets, every=options.every)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/eval"), help="the evaluation folder")
    add("--sets", nargs="+", choices=[*FILES, OWN], default=[*FILES, OWN])
    add("--own", action="store_const", const=[OWN], dest="sets", help="only the set in the tests")
    add("--every", type=int, default=1, help="every n-th question of SQuAD and XQuAD")
    add(
        "--keep",
        type=Path,
        help="keep the documents there, and use them again: for runs that"
        " change nothing of ingestion",
    )
    add("--settings", nargs="+", default=[], metavar="NAME=VALUE", help="of the product")
    add("--read", type=Path, help="show an earlier record; ask nothing")
    add(
        "--record",
        type=Path,
        help="write the ranks of every question, as JSON; other sets in the file stay",
    )
    add("--against", type=Path, help="compare with an earlier record")
    add("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="compare two records")
    add("--stage", default=FINAL, help="what is compared")
    add("--changes", action="store_true", help="list the questions whose ranks differ")
    add("--table", type=Path, help="write Markdown tables")
    add("--plot", type=Path, help="write an SVG plot")
    return parser.parse_args(arguments)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
