"""An annual report as a PDF: headings, paragraphs and a table on every page, and one fact."""

import random
from functools import cache
from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import (
    Flowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

PAGES = 160
FACT = "The Brno plant produced 48,213 gearboxes in 2021."
FACT_PAGE = 117

_TOPICS = ("Logistics", "Procurement", "Research", "Staff", "Energy", "Real estate", "Insurance")
_REGIONS = ("Nordic", "Iberian", "Alpine", "Baltic", "Adriatic", "Atlantic")
_SUBJECTS = ("The management board", "The supervisory board", "Our partner", "The audit committee")
_VERBS = ("reviewed", "approved", "postponed", "extended", "discussed", "renegotiated")
_OBJECTS = (
    "the framework agreement with carriers",
    "the renewal of leases on warehouses",
    "the training of apprentices",
    "a program to reduce waste water",
    "the purchase of electric vans",
    "the policy on business travel",
)
_REASONS = (
    "because freight rates rose faster than expected",
    "after a comparison of three bidders",
    "as the contract would have ended in autumn",
    "so that costs stay within the approved plan",
    "although demand was weaker in the second half",
)


@cache
def report_pdf() -> bytes:
    """PAGES pages, the same bytes each time. FACT stands once, on page FACT_PAGE (from 1)."""
    buffer = BytesIO()
    document = SimpleDocTemplate(buffer, pagesize=A4, title="Annual report 2021", invariant=1)
    chance = random.Random(2021)
    document.build([part for page in range(1, PAGES + 1) for part in _page(page, chance)])
    return buffer.getvalue()


def _page(number: int, chance: random.Random) -> list[Flowable]:
    styles = getSampleStyleSheet()
    region, topic = chance.choice(_REGIONS), chance.choice(_TOPICS)
    paragraphs = [_paragraph(region, chance) for _ in range(3)]
    if number == FACT_PAGE:
        sentences = paragraphs[1].split(". ")
        paragraphs[1] = ". ".join([*sentences[:2], FACT.removesuffix("."), *sentences[2:]])
    table = Table(
        _rows(number, chance), style=TableStyle([("GRID", (0, 0), (-1, -1), 0.5, "#999999")])
    )
    return [
        Paragraph(f"{number}. {topic} in the {region} region", styles["Heading1"]),
        *(Paragraph(text, styles["BodyText"]) for text in paragraphs),
        Spacer(1, 12),
        table,
        PageBreak(),
    ]


def _paragraph(region: str, chance: random.Random) -> str:
    sentences = [
        f"{chance.choice(_SUBJECTS)} {chance.choice(_VERBS)} {chance.choice(_OBJECTS)}"
        f" {chance.choice(_REASONS)}."
        for _ in range(3)
    ]
    budget = f"The {region} budget was {chance.randint(100, 999)} thousand euros."
    return " ".join([*sentences, budget])


def _rows(page: int, chance: random.Random) -> list[list[str]]:
    quarters = [
        [f"Quarter {quarter}", f"{chance.randint(1, 90)}.{page % 10}", f"{chance.randint(1, 90)} %"]
        for quarter in range(1, 5)
    ]
    return [["Period", "Expenses (EUR m)", "Change"], *quarters]
