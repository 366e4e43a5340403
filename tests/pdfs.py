"""PDF files made for tests, as bytes: readable, long, locked, without text, broken."""

from collections.abc import Sequence
from io import BytesIO

from pypdf import PdfReader, PdfWriter
from pypdf.constants import PageLabelStyle
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas


def text_pdf(pages: Sequence[str], *, title: str = "") -> bytes:
    """One page for each text; lines are broken where the text breaks them."""
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.setTitle(title)
    for text in pages:
        lines = canvas.beginText(72, 760)
        lines.textLines(text)
        canvas.drawText(lines)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def long_pdf(page_count: int, *, topic: str = "harbor") -> bytes:
    """Pages of 40 lines that all differ."""
    return text_pdf(
        [
            "\n".join(
                f"Line {line} of page {page}: the {topic} report counts {page * line} ships."
                for line in range(1, 41)
            )
            for page in range(1, page_count + 1)
        ]
    )


def encrypted_pdf(text: str, *, password: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(text_pdf([text]))))
    writer.encrypt(password, "owner", algorithm="AES-128")
    buffer = BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def scanned_pdf(*, gray: float = 0.5) -> bytes:
    """A drawing and not one letter."""
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.setFillGray(gray)
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def mapped_pdf(code_points: Sequence[int]) -> bytes:
    """A page whose font says that the letters A, B, … stand for these code points.

    Behind them stands "readable". That is how a file brings U+FFFE, NUL or half a surrogate pair
    into its text.
    """
    pairs = "\n".join(f"<{0x41 + i:02X}> <{code:04X}>" for i, code in enumerate(code_points))
    to_unicode = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def\n"
        "/CMapType 2 def 1 begincodespacerange <00> <FF> endcodespacerange\n"
        f"{len(code_points)} beginbfchar\n{pairs}\nendbfchar\n"
        "endcmap CMapName currentdict /CMap defineresource pop end end"
    )
    letters = "".join(chr(0x41 + i) for i in range(len(code_points)))
    content = f"BT /F1 24 Tf 72 700 Td (x{letters}y) Tj 0 -40 Td /F2 24 Tf (readable) Tj ET"
    return _assemble(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            " /Resources << /Font << /F1 5 0 R /F2 7 0 R >> >> >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
            f"<< /Length {len(to_unicode)} >>\nstream\n{to_unicode}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def bomb_pdf() -> bytes:
    """A page of a drawing that holds ten others, each of which holds ten more, and so on."""
    levels = 11
    forms = []
    for level in range(levels):
        inner = "/X Do " * 10 if level + 1 < levels else "0 0 9 9 re f"
        resources = f"<< /XObject << /X {5 + level} 0 R >> >>" if level + 1 < levels else "<< >>"
        forms.append(
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 600 850] /Resources {resources}"
            f" /Length {len(inner)} >>\nstream\n{inner}\nendstream"
        )
    return _assemble(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {4 + levels} 0 R"
            " /Resources << /XObject << /X 4 0 R >> >> >>",
            *forms,
            "<< /Length 6 >>\nstream\n/X Do \nendstream",
        ]
    )


def labeled_pdf(
    texts: Sequence[str], *, style: PageLabelStyle | None, prefix: str = "", start: int = 1
) -> bytes:
    """Pages whose printed names are a prefix and a number in the style."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(text_pdf(texts))))
    writer.set_page_label(0, len(texts) - 1, style=style, prefix=prefix, start=start)
    buffer = BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def truncated_pdf() -> bytes:
    return text_pdf(["Whole sentences."])[:200]


def garbage_pdf() -> bytes:
    """The mark of a PDF, then noise."""
    return b"%PDF-1.7\n" + bytes(range(256)) * 40


def _assemble(objects: Sequence[str]) -> bytes:
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    entries = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{entries}"
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF"
    return (body + table + trailer).encode("latin-1")
