"""Two runs compared: a clearly worse one is found, noise is not; records survive their file."""

import json
from pathlib import Path

import pytest

from bench.quality.__main__ import main
from bench.quality.comparing import Comparison, compare, regressions
from bench.quality.figures import figures_of, values_of
from bench.quality.measures import MEASURES
from bench.quality.records import FINAL, Asked, Record, read_record, stages_of, update_record

TOLERANCES = {"hit@5": 0.04, "MRR@10": 0.03}


def record_of(*ranks: int | None, name: str = "s") -> Record:
    """A record whose question number n found its one item at this rank, or not at all."""
    return Record(
        {
            name: {
                f"q{number:03}": Asked({FINAL: () if rank is None else (rank,)}, 1)
                for number, rank in enumerate(ranks)
            }
        }
    )


def comparison(before: Record, after: Record, measure: str) -> Comparison:
    return next(one for one in compare(before, after) if one.measure == measure)


GOOD = record_of(*[1] * 60, *[3] * 30, *[None] * 10)


def test_a_clearly_worse_run_is_worse() -> None:
    worse = record_of(*[1] * 45, *[8] * 45, *[None] * 10)
    seen = comparison(GOOD, worse, "hit@5")
    assert (seen.wins, seen.losses, seen.ties) == (0, 45, 55)
    assert seen.difference == pytest.approx(-0.45)
    assert seen.p == pytest.approx(2 / 2**45)
    assert seen.low < seen.difference < seen.high < 0
    assert seen.is_worse
    assert not seen.is_better
    assert {one.measure for one in regressions(GOOD, worse, tolerances=TOLERANCES)} == {
        "hit@5",
        "MRR@10",
    }


def test_the_same_run_the_other_way_round_is_better_and_no_regression() -> None:
    worse = record_of(*[1] * 45, *[8] * 45, *[None] * 10)
    assert comparison(worse, GOOD, "hit@5").is_better
    assert regressions(worse, GOOD, tolerances=TOLERANCES) == []


def test_a_few_questions_more_or_less_are_noise() -> None:
    # Three are lost and two are won: the mean falls by less than is tolerated.
    other = record_of(*[1] * 60, *[3] * 27, *[7] * 3, *[4] * 2, *[None] * 8)
    seen = comparison(GOOD, other, "hit@5")
    assert (seen.wins, seen.losses) == (2, 3)
    assert not seen.is_worse
    assert regressions(GOOD, other, tolerances=TOLERANCES) == []


def test_losses_without_wins_are_found_although_the_mean_hardly_falls() -> None:
    # Six of 200 lost the first place: 0.015 of MRR, and 1 in 64 by chance.
    before, after = record_of(*[1] * 200), record_of(*[2] * 6, *[1] * 194)
    (found,) = regressions(before, after, tolerances=TOLERANCES)
    assert found.measure == "MRR@10"
    assert found.p_worse == pytest.approx(1 / 64)
    # With as many measures again the same is not enough.
    assert regressions(before, after, tolerances=dict.fromkeys(MEASURES, 0.05)) == []


def test_a_mean_far_below_is_found_whatever_the_signs_say() -> None:
    # Four questions are lost altogether, and six rise from the second place to the first.
    before = record_of(*[1] * 44, *[2] * 6)
    after = record_of(*[None] * 4, *[1] * 46)
    found = regressions(before, after, tolerances=TOLERANCES)
    assert [one.measure for one in found] == ["hit@5"]
    assert found[0].p_worse > 0.05


def test_only_questions_of_both_runs_are_compared() -> None:
    fewer = record_of(*[1] * 50)
    assert {one.questions for one in compare(GOOD, fewer)} == {50}
    assert compare(GOOD, record_of(1, name="other")) == []


def test_unanswerable_questions_have_no_ranks_to_compare() -> None:
    record = Record({"none": {"q": Asked({FINAL: ()}, 0, 0.3)}})
    assert values_of(record) == {}


def test_figures_have_a_row_for_each_stage() -> None:
    asked = {
        "a": Asked({"dense": (2,), FINAL: (1,), "pages": (4,)}, 1),
        "b": Asked({"dense": (), FINAL: (1,), "pages": (), "reranked": (1,)}, 1),
    }
    assert stages_of(asked) == ["dense", "reranked", "pages", FINAL]
    figures = figures_of(values_of(Record({"s": asked}))["s"])
    assert figures["dense"]["hit@5"].mean == 0.5
    assert figures["dense"]["MRR@10"].mean == 0.25
    assert figures[FINAL]["hit@1"].mean == figures[FINAL]["hit@1"].low == 1
    # The question that was not reranked has its final ranks there.
    assert figures["reranked"]["hit@1"].mean == 1


def test_translations_of_a_question_are_one_question() -> None:
    record = Record(
        {
            "xquad/de": {"de:1": Asked({FINAL: (1,)}, 1), "de:2": Asked({FINAL: ()}, 1)},
            "xquad/th": {"th:1": Asked({FINAL: (2,)}, 1), "th:2": Asked({FINAL: (1,)}, 1)},
        }
    )
    values = values_of(record)["xquad"]
    assert values.question_ids == ("1", "2")
    assert values.stages[FINAL][:, 0].tolist() == [0.5, 0.5]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(
        {
            "s": {
                "a": Asked({"dense": (2, 5), FINAL: ()}, 2, 0.25, False, 0.5),
                "b": Asked({FINAL: (1,)}, 1),
            },
            "none": {"c": Asked({FINAL: ()}, 0, 0.1, True)},
        }
    )
    record.write(tmp_path / "new" / "r.json")
    assert read_record(tmp_path / "new" / "r.json") == record


def test_what_was_not_measured_stays_in_a_record(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    update_record(path, record_of(1, 2, name="a"))
    update_record(path, record_of(3, name="b"))
    update_record(path, record_of(4, name="a"))
    both = record_of(4, name="a").sets | record_of(3, name="b").sets
    assert read_record(path).sets == both


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"format": 0, "sets": {}}))
    with pytest.raises(ValueError, match="record it anew"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize("is_worse", [True, False])
def test_the_command_exits_with_1_when_something_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_worse: bool
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    GOOD.write(good)
    record_of(*[9] * 90, *[None] * 10).write(bad)
    order = [good, bad] if is_worse else [bad, good]
    assert main(["--compare", *map(str, order), "--changes"]) == int(is_worse)
    output = capsys.readouterr().out
    assert ("WORSE" in output) is is_worse
    assert ("s q000: [1] -> [9]" in output) is is_worse
    assert "q099" not in output  # found by neither
