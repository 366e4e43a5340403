"""What a PDF's form fields were filled with. pdfium leaves it out of the text of a page."""

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

_MAX_ANNOTATIONS = 5_000  # of one page
_TEXT_FIELDS = frozenset(
    {
        pdfium_c.FPDF_FORMFIELD_TEXTFIELD,
        pdfium_c.FPDF_FORMFIELD_COMBOBOX,
        pdfium_c.FPDF_FORMFIELD_LISTBOX,
    }
)
_BUTTON_FIELDS = frozenset({pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON})
_PASSWORD_FLAG = 1 << 13
# A longer value that the text holds as well was drawn into it; a short one can be there by chance.
_LONG_VALUE = 12


def enable_forms(pdf: pdfium.PdfDocument) -> None:
    """Let pdfium read the form of a document, before any page is loaded. Runs none of its scripts.

    Without effect on a document without a form, or one whose form pdfium can't read.
    """
    # It logs on forms of the XFA kind, whose fields it reads all the same where they have a copy.
    logging.getLogger("pypdfium2").setLevel(logging.CRITICAL + 1)
    try:
        pdf.init_forms()
    except pdfium.PdfiumError:
        return


def read_form_lines(pdf: pdfium.PdfDocument, page: pdfium.PdfPage, text: str) -> list[str]:
    """Return `Field name: value` for each filled field of a page, in the page's order.

    Left out are passwords and long values that the page's own text already holds.
    """
    if pdf.formenv is None:
        return []
    lines: list[str] = []
    count = pdfium_c.FPDFPage_GetAnnotCount(page)
    for index in range(min(count, _MAX_ANNOTATIONS)):
        with _annotation(page, index) as annotation:
            if annotation is None:
                continue
            name, value = _read_field(pdf, annotation)
        if value and not (len(value) >= _LONG_VALUE and value in text):
            lines.append(f"{name}: {value}" if name else value)
    return list(dict.fromkeys(lines))  # a field shown twice has the value once


@contextmanager
def _annotation(page: pdfium.PdfPage, index: int) -> Iterator["pdfium_c.FPDF_ANNOTATION | None"]:
    annotation = pdfium_c.FPDFPage_GetAnnot(page, index)
    try:
        yield annotation or None
    finally:
        if annotation:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


def _read_field(pdf: pdfium.PdfDocument, annotation: "pdfium_c.FPDF_ANNOTATION") -> tuple[str, str]:
    """Return a field's name and value, each on one line; an empty value if it shows none."""
    if pdfium_c.FPDFAnnot_GetSubtype(annotation) != pdfium_c.FPDF_ANNOT_WIDGET:
        return "", ""
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(pdf.formenv, annotation)
    is_password = pdfium_c.FPDFAnnot_GetFormFieldFlags(pdf.formenv, annotation) & _PASSWORD_FLAG
    is_checked = kind in _BUTTON_FIELDS and pdfium_c.FPDFAnnot_IsChecked(pdf.formenv, annotation)
    if not is_checked and (kind not in _TEXT_FIELDS or is_password):
        return "", ""

    def read(function: Callable[..., int]) -> str:
        return _read_string(lambda buffer, size: function(pdf.formenv, annotation, buffer, size))

    # The alternate name is what people see.
    name = read(pdfium_c.FPDFAnnot_GetFormFieldAlternateName)
    name = name or read(pdfium_c.FPDFAnnot_GetFormFieldName)
    return name, read(pdfium_c.FPDFAnnot_GetFormFieldValue)


def _read_string(read: Callable[["ctypes.Array[ctypes.c_ushort] | None", int], int]) -> str:
    """Call pdfium for the length of a string in bytes, then for the string, in UTF-16 with NUL."""
    size = read(None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    text = bytes(buffer)[:size].decode("utf-16-le", "replace")
    return " ".join(text.split("\0", 1)[0].split())
