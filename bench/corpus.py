"""Upload every odd PDF of the evaluation set, and compare how it ended with what is acceptable.

python -m bench.corpus --data ../shared/eval/bad_pdfs
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench.product import Product, require_data, running_product

_CODES = {"wrong_password": "encrypted"}
_REFUSED = 415


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval/bad_pdfs"))
    parser.add_argument("--ocr", action="store_true", help="with text recognition, if installed")
    options = parser.parse_args()
    listing = options.data.with_suffix(".jsonl")
    require_data(options.data.parent, options.data.name, listing.name)
    cases = [json.loads(line) for line in listing.read_text().splitlines()]
    with running_product(OCR_LANGUAGES="eng" if options.ocr else "none") as product:
        workers = set(product.worker_pids())
        started = time.monotonic()
        uploads = [(case, upload(product, options.data.parent / case["file"])) for case in cases]
        differing = sum(not is_acceptable(product, case, what) for case, what in uploads)
        seconds = time.monotonic() - started
        change = "unchanged" if set(product.worker_pids()) == workers else "CHANGED"
        print(
            f"{len(cases) - differing} of {len(cases)} ended as listed in {seconds:.0f} s; "
            f"worker processes {change}"
        )


def upload(product: Product, path: Path) -> str | None:
    """Return the document's id, or None when the upload was refused as no PDF."""
    with path.open("rb") as file:
        response = product.client.post(
            "/api/v1/documents/upload", files={"file": (path.name, file)}
        )
    if response.status_code == _REFUSED:
        return None
    response.raise_for_status()
    return str(response.json()["document_id"])


def wait(product: Product, document_id: str | None) -> dict[str, Any]:
    """Return the document as it ended. A file that was refused counts as corrupt."""
    if document_id is None:
        return {"status": "failed", "error_code": "corrupt", "chunk_count": 0}
    return product.wait_until_done(document_id)


def is_acceptable(product: Product, case: dict[str, Any], document_id: str | None) -> bool:
    """Say whether the document ended as listed; print it, and what its text is, if it did not."""
    document = wait(product, document_id)
    code = document["error_code"]
    outcome = "text" if document["status"] == "ready" else _CODES.get(code, code)
    acceptable = case["expected"]["acceptable"]
    if outcome in acceptable and (outcome != "text" or document["chunk_count"] > 0):
        return True
    sources = product.client.get(f"/api/v1/documents/{document_id}/report").json()["sources"]
    found = ", ".join(f"{count} pages {source}" for source, count in sources.items() if count)
    print(
        f"  {case['file']}: {outcome}, not {' or '.join(acceptable)}: {document['error_message']}"
        f" ({found}; listed because it {case['expected']['why']})"
    )
    return False


if __name__ == "__main__":
    main()
