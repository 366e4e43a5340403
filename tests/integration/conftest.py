"""What the tests of text recognition share."""

import os
import shutil

import pytest

from app.ingestion.ocr import OcrEngine, find_ocr_engine


@pytest.fixture(scope="session")
def engine() -> OcrEngine:
    if shutil.which("tesseract") is None:
        message = "Tesseract is not installed: apt-get install tesseract-ocr"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    found = find_ocr_engine("eng")
    assert found is not None
    return found
