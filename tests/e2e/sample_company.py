"""A made-up shipping company's documents, for pictures that look like somebody's real work."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

COMPANY = "Saltmarsh Ferries"
ANNUAL_REPORT = "Annual report 2025.pdf"
QUESTION = "What did the electric ferries change, in money and in emissions?"
ANSWER = """\
Six of eleven ferries sail on batteries now, and both figures fell:

- **Fuel** cost €12.7 million, after €18.4 million in 2024 [[Fuel cost €12.7 million]].
- **Emissions** fell by 28 % to 41,200 tonnes of CO₂ [[Emissions fell by 28 %]].
- **Charging** cost €2.9 million, most of it at night [[Charging cost €2.9 million]].

Two more ferries follow in the spring of 2026 [[Two more ferries follow]]."""
ANSWER_START = "Six of eleven ferries sail on batteries now"

_SEA = HexColor("#12506b")
_MIST = HexColor("#e6eff2")
_INK = HexColor("#1f2a30")
_TITLE = ParagraphStyle("title", fontName="Times-Bold", fontSize=34, leading=40, textColor=_SEA)
_LINE = ParagraphStyle("line", fontName="Helvetica", fontSize=13, leading=18, textColor=_INK)
_HEADING = ParagraphStyle(
    "heading", fontName="Times-Bold", fontSize=22, leading=27, textColor=_SEA, spaceAfter=8
)
_BODY = ParagraphStyle(
    "body", fontName="Times-Roman", fontSize=11.5, leading=16.5, textColor=_INK, spaceAfter=8
)


@dataclass(frozen=True, slots=True)
class Section:
    """One page: a heading, paragraphs, and perhaps a table whose first row is its head."""

    heading: str
    paragraphs: Sequence[str]
    rows: Sequence[Sequence[str]] = ()


_REPORT = [
    Section(
        "Letter from the chair",
        [
            "2025 was the year in which our passengers stopped noticing the new ferries. That is "
            "the best thing that can be said of a ferry. They left on time, they arrived on time, "
            "and for the first time since the company was founded nobody wrote to us about noise.",
            "We carried 4.3 million passengers between nine islands, 6 % more than in the year "
            "before. The winter timetable, which we kept whole for the first time, brought half of "
            "that growth. The storms of January cost us eleven days, fewer than in any year of the "
            "last ten.",
            "The board thanks the crews. What is written on the following pages about batteries, "
            "berths and timetables was done by 612 people who also learned, in one winter, how to "
            "sail ships that make no sound.",
        ],
    ),
    Section(
        "The year in figures",
        [
            "All figures are for the calendar year and for the whole group. Those of the year "
            "before are as published then.",
        ],
        [
            ["", "2024", "2025"],
            ["Passengers (million)", "4.06", "4.30"],
            ["Revenue (€ million)", "91.5", "97.8"],
            ["Fuel (€ million)", "18.4", "12.7"],
            ["Electricity (€ million)", "0.6", "2.9"],
            ["Operating result (€ million)", "7.1", "10.6"],
            ["People", "598", "612"],
        ],
    ),
    Section(
        "Routes and timetables",
        [
            "Nine islands are served all year round, and two more from May to September. The line "
            "to Outer Holm was extended to the new harbor in June, which takes nine minutes off "
            "each crossing.",
            "Punctuality is measured at the destination: 96.2 % of all crossings arrived within "
            "five minutes of the timetable, after 94.8 % in the year before.",
            "The night boat to Greywick remains a trial. It carried 31,000 passengers, more than "
            "planned, but only on four nights of the week.",
        ],
    ),
    Section(
        "Electric ferries",
        [
            "Six of our eleven ferries sail on batteries since July. They charge at three berths, "
            "and a full charge takes 24 minutes, less than the time that a ferry lies at the pier.",
            "Fuel cost €12.7 million, after €18.4 million in 2024. The price of marine diesel was "
            "nearly the same in both years, so that the saving is that of the batteries.",
            "The first winter was the test. Cold took a tenth of the range, and ice at the berth "
            "on Holm stopped the charging arm on two mornings. Both days were sailed as planned, "
            "with the reserve that each battery keeps.",
            "Crews ask for the quiet boats. Passengers do not ask at all, which we take as a "
            "compliment. The engines that were taken out were sold to a yard in Greywick.",
        ],
        [
            ["Ferry", "Since", "Battery (MWh)"],
            ["Heron", "March", "4.2"],
            ["Avocet", "March", "4.2"],
            ["Curlew", "May", "4.2"],
            ["Lapwing", "June", "5.6"],
            ["Plover", "July", "5.6"],
            ["Dunlin", "July", "5.6"],
        ],
    ),
    Section(
        "Energy and emissions",
        [
            "Emissions fell by 28 % to 41,200 tonnes of CO2. They are counted from the tank and "
            "from the grid, by the method that the port authority prescribes.",
            "Charging cost €2.9 million, most of it at night, when the wind farm off Holm sells "
            "what nobody else wants. The contract with the grid runs until 2031.",
            "Heat from the battery rooms warms the waiting halls at two piers. It is a small "
            "thing, and the most liked of all.",
        ],
        [
            ["CO2 (thousand tonnes)", "2024", "2025"],
            ["From the tank", "56.9", "39.6"],
            ["From the grid", "0.3", "1.6"],
        ],
    ),
    Section(
        "People and training",
        [
            "612 people worked for us at the end of the year, 14 more than at its beginning. One "
            "in five is younger than thirty.",
            "Every deck officer was trained on the battery systems. The course takes nine days, "
            "three of them on board, and ends with a blackout drill that nobody likes.",
            "There were four accidents with lost working time, after seven in the year before.",
        ],
    ),
    Section(
        "Risks",
        [
            "The greatest risk is the weather, and the second greatest is the grid. A failure of "
            "both cables to Holm would stop four ferries within a day; a reserve of diesel for "
            "ten days is kept on Saltmarsh for that case.",
            "Interest on the loans for the batteries is fixed until 2030. After that a change of "
            "one percentage point is worth €0.4 million a year.",
        ],
    ),
    Section(
        "Outlook",
        [
            "We expect 4.4 million passengers in 2026 and an operating result of about €11 "
            "million. Fares stay as they are until the summer of 2027.",
            "The order for a twelfth ferry, which would be the first that was built electric, "
            "will be decided in the autumn.",
            "Two more ferries follow in the spring of 2026, both with batteries of 5.6 MWh. The "
            "last three are too young to be rebuilt and will sail on diesel until 2033.",
        ],
    ),
]
_HANDBOOK = [
    Section(
        f"{topic}",
        [
            f"This chapter says what the crew does about {topic.lower()}, in port and at sea. It "
            "is read aloud at the beginning of each season, and signed by everybody on board.",
            "The officer on watch decides, tells the bridge, and writes it down within the hour.",
        ]
        * 2,
    )
    for topic in (
        "Battery fires",
        "Blackout drills",
        "Man overboard",
        "Evacuation at the pier",
        "Loading of vehicles",
        "Reports to the port authority",
    )
]
_LEASE = [
    Section(
        heading,
        [
            text,
            "Changes to this section need the written form and the signature of both parties, "
            "and are attached to the contract with their date.",
        ],
    )
    for heading, text in {
        "Subject of the lease": "The port authority leases pier 7 with its two charging berths.",
        "Term and notice": "The lease runs for ten years. Either party may end it with a notice "
        "of eighteen months to the end of a calendar year.",
        "Rent": "The rent is €212,000 a year, payable each quarter in advance.",
        "Electricity": "The tenant buys electricity itself, and pays for the meter.",
    }.items()
]


def annual_report() -> bytes:
    """A cover and a page for each section."""
    return _pdf("Annual report 2025", _REPORT, line="What we did, what it cost, what comes next")


def safety_handbook() -> bytes:
    return _pdf("Safety handbook", _HANDBOOK, line="For crews on electric ferries")


def pier_lease() -> bytes:
    return _pdf("Lease of pier 7", _LEASE, line="Between the port authority and the company")


MINUTES = b"""# Board minutes

## Twelfth ferry

The board looked at three offers and asks the shipyards for binding prices until September.

## Night boat to Greywick

The trial goes on for one more year, on five nights of the week instead of four.
"""


def _pdf(title: str, sections: Sequence[Section], *, line: str) -> bytes:
    """The same bytes for the same sections."""
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        title=title,
        author=COMPANY,
        invariant=1,
        leftMargin=26 * mm,
        rightMargin=26 * mm,
        topMargin=30 * mm,
        bottomMargin=28 * mm,
    )
    cover: list[Flowable] = [
        Spacer(1, 90 * mm),
        Paragraph(title, _TITLE),
        Spacer(1, 4 * mm),
        Paragraph(line, _LINE),
    ]
    pages = [part for section in sections for part in [PageBreak(), *_page(section)]]
    document.build([*cover, *pages], onFirstPage=_draw_cover, onLaterPages=_draw_page)
    return buffer.getvalue()


def _page(section: Section) -> list[Flowable]:
    parts: list[Flowable] = [Paragraph(section.heading, _HEADING)]
    parts += [Paragraph(text, _BODY) for text in section.paragraphs]
    if section.rows:
        parts += [
            Spacer(1, 6),
            Table(section.rows, colWidths=[78 * mm, 32 * mm, 32 * mm], style=_ROWS),
        ]
    return parts


_ROWS = TableStyle(
    [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 10.5),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 10.5),
        ("TEXTCOLOR", (0, 0), (-1, -1), _INK),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("BACKGROUND", (0, 0), (-1, 0), _MIST),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _MIST),
        ("TOPPADDING", (0, 0), (-1, -1), 6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
    ]
)


def _draw_cover(canvas: Canvas, _: SimpleDocTemplate) -> None:
    width, height = A4
    canvas.setFillColor(_SEA)
    canvas.rect(0, height - 62 * mm, width, 62 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#ffffff"))
    canvas.setFont("Times-Bold", 20)
    canvas.drawString(26 * mm, height - 36 * mm, COMPANY)


def _draw_page(canvas: Canvas, document: SimpleDocTemplate) -> None:
    width, height = A4
    canvas.setFillColor(_SEA)
    canvas.setFont("Helvetica", 8.5)
    canvas.drawString(26 * mm, height - 18 * mm, COMPANY)
    canvas.drawRightString(width - 26 * mm, 15 * mm, str(document.page))
