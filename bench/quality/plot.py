"""The figures as an SVG: each goal with its stages, and the ROC of answerability."""

from collections.abc import Iterator
from html import escape

from bench.quality.figures import Figure
from bench.quality.goals import GOALS, Goal
from bench.quality.records import FINAL, Record
from bench.quality.report import Figures, scores_of
from bench.quality.roc import area_under_roc, roc_curve

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 880, 270, 70, 64, 40
_ROC_SIZE, _ROC_GAP = 220, 60
_INK, _FAINT, _PLAIN, _WANTED = "#24292f", "#d0d7de", "#8c959f", "#1a7f37"
_COLORS = {"dense": "#bf8700", "fulltext": "#8250df", "fused": "#0969da", "reranked": "#cf222e"}
_FINAL_COLOR = "#24292f"


def plot_svg(record: Record, figures: Figures) -> str:
    """Draw the goals whose sets were measured, and a ROC curve for each set that has one."""
    goals = [goal for goal in GOALS if goal.set_name in figures]
    bottom = _TOP + _ROW * len(goals)
    curves = scores_of(record)
    height = bottom + 40 + ((_ROC_SIZE + _ROC_GAP + 30) if curves else 0)
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' font-family="system-ui, sans-serif" font-size="13" fill="{_INK}" role="img">',
        "<title>Retrieval quality by stage, with 95 % intervals</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend({stage for goal in goals for stage in figures[goal.set_name]}),
        *_axis(bottom),
    ]
    for number, goal in enumerate(goals):
        body += _goal_row(goal, figures, _TOP + _ROW * number + _ROW / 2)
    if curves:
        caption = "↑ share of answerable answered"
        body.append(_text(_LEFT - 12, bottom + _ROC_GAP + 10, caption, anchor="end"))
    for number, (name, (answerable, unanswerable)) in enumerate(curves.items()):
        left = _LEFT + number * (_ROC_SIZE + 100)
        body += _roc_panel(name, answerable, unanswerable, left=left, top=bottom + _ROC_GAP)
    return "\n".join([*body, "</svg>"]) + "\n"


def _x(value: float) -> float:
    return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)


def _legend(seen: set[str]) -> Iterator[str]:
    left = 16.0
    marks = [(stage, color) for stage, color in _COLORS.items() if stage in seen]
    for label, color in [*marks, ("results, 95 % interval", _FINAL_COLOR)]:
        yield _dot(left, 24, color, radius=5 if color == _FINAL_COLOR else 4)
        yield _text(left + 10, 28, label)
        left += 40 + 7 * len(label)
    for label, color in (("plain", _PLAIN), ("goal", _WANTED)):
        yield _line(left, 16, left, 32, color, width=3)
        yield _text(left + 8, 28, label)
        left += 40 + 7 * len(label)


def _axis(bottom: float) -> Iterator[str]:
    for tenth in range(0, 11, 2):
        x = _x(tenth / 10)
        yield _line(x, _TOP, x, bottom, _FAINT)
        yield _text(x, bottom + 18, f"{tenth / 10:.1f}", anchor="middle")


def _goal_row(goal: Goal, figures: Figures, y: float) -> Iterator[str]:
    stages = figures[goal.set_name]
    yield _text(_LEFT - 12, y + 4, goal.label, anchor="end")
    for value, color in ((goal.plain, _PLAIN), (goal.goal, _WANTED)):
        yield _line(_x(value), y - 13, _x(value), y + 13, color, width=3)
    seen: Figure = stages[FINAL][goal.measure]
    yield _line(_x(seen.low), y, _x(seen.high), y, _FINAL_COLOR, width=2)
    for stage, color in _COLORS.items():
        if stage in stages:
            yield _dot(_x(stages[stage][goal.measure].mean), y, color)
    yield _dot(_x(seen.mean), y, _FINAL_COLOR, radius=5)
    yield _text(_WIDTH - 16, y + 4, f"{seen.mean:.3f}", anchor="end")


def _roc_panel(
    name: str, answerable: list[float], unanswerable: list[float], *, left: float, top: float
) -> Iterator[str]:
    area = area_under_roc(answerable, unanswerable)
    size = _ROC_SIZE
    yield _text(left, top - 8, f"Is there an answer? ({name}) AUC {area:.3f}")
    yield (
        f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="{_FAINT}"/>'
    )
    yield _line(left, top + size, left + size, top, _FAINT)
    points = " ".join(
        f"{left + x * size:.1f},{top + (1 - y) * size:.1f}"
        for x, y in roc_curve(answerable, unanswerable)
    )
    yield f'<polyline points="{points}" fill="none" stroke="{_COLORS["fused"]}" stroke-width="2"/>'
    yield _text(left, top + size + 18, "share of unanswerable answered →")


def _text(x: float, y: float, content: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, *, width: int = 1) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"/>'
    )


def _dot(x: float, y: float, color: str, *, radius: int = 4) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{color}"/>'
