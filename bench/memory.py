"""Peak memory of reading and chunking a document, and what a process of the API takes at rest.

python -m bench.memory [--api]

`--api` measures the API alone: before any local model is loaded, with each provider in turn.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from app.ingestion.chunking import chunk_pages
from app.ingestion.media_types import PDF
from app.ingestion.sandbox import open_sandboxed
from app.llm.wordpiece import WordPieceTokenizer
from bench.servers import ApiProcess, running_apis

PAGES = (200, 2000)
# Nobody listens there: what is measured is there before the first answer.
NOWHERE = "http://127.0.0.1:9"
REMOTE = {"EMBEDDING_MODEL": "openai/text-embedding-3-small"}
APIS = {
    "only OpenAI": REMOTE,
    "and Azure": REMOTE
    | {
        "AZURE_OPENAI_ENDPOINT": NOWHERE,
        "AZURE_OPENAI_API_KEY": "stand-in",
        "AZURE_OPENAI_DEPLOYMENTS": "gpt-4.1-mini",
    },
    "and a compatible server": REMOTE | {"COMPATIBLE_BASE_URL": f"{NOWHERE}/v1"},
    "and OpenRouter": REMOTE
    | {"OPENROUTER_API_KEY": "stand-in", "OPENROUTER_BASE_URL": f"{NOWHERE}/v1"},
    "and Ollama": REMOTE | {"OLLAMA_BASE_URL": NOWHERE},
    "and Anthropic": REMOTE | {"ANTHROPIC_API_KEY": "stand-in", "ANTHROPIC_BASE_URL": NOWHERE},
    "and Gemini": REMOTE | {"GEMINI_API_KEY": "stand-in", "GEMINI_BASE_URL": NOWHERE},
    "and the local embedding model": {},
}


def main() -> None:
    if sys.argv[1:] == ["--api"]:
        measure_apis()
        return
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    measure_documents()
    measure_apis()


def measure_apis() -> None:
    """Print the memory of a process of the API and its time to start, by configuration."""
    with running_apis(1, f"{NOWHERE}/v1", **REMOTE) as servers:
        first = servers.apis[0]
        for name, settings in APIS.items():
            api = ApiProcess({**first.env, "EMBEDDING_MODEL": "", **settings}, first.folder)
            begun = time.monotonic()
            api.start()
            api.wait_until_ready()
            elapsed_s = time.monotonic() - begun
            print(f"API, {name}: {api.rss_mb():.0f} MB, ready after {elapsed_s:.1f} s")
            api.stop()


def measure_documents() -> None:
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in PAGES:
            path = Path(folder) / f"{count}.pdf"
            write_pdf(path, count)
            # Each in a process of its own: a peak is never given back.
            done = subprocess.run(
                [sys.executable, "-m", "bench.memory", str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append([float(number) for number in done.stdout.split()])
            print(
                f"{count} pages: child {peaks[-1][0]:.0f} MB, worker's side {peaks[-1][1]:.0f} MB"
            )
    ratios = [after / before for before, after in zip(*peaks, strict=True)]
    print(
        f"{PAGES[1]} pages against {PAGES[0]}: child {ratios[0]:.2f}, worker {ratios[1]:.2f} times"
    )


def measure(path: Path) -> None:
    """Print the peaks of the child and of this process, in MB."""
    child_mb = 0.0
    with open_sandboxed(path, PDF) as document:
        for _ in chunk_pages(document.pages(), tokenizer=WordPieceTokenizer(), max_tokens=256):
            child_mb = max(child_mb, *(peak_mb(pid) for pid in children()), 0.0)
    print(child_mb, peak_mb("self"))


def children() -> list[str]:
    return [
        pid
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]


def peak_mb(pid: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0  # it has just ended
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    return int(peak.group(1)) / 1024 if peak else 0.0


def write_pdf(path: Path, page_count: int) -> None:
    canvas = Canvas(str(path), pagesize=A4)
    for page in range(1, page_count + 1):
        canvas.drawString(72, 790, f"{page}. Section {page}")
        lines = canvas.beginText(72, 760)
        for line in range(1, 45):
            lines.textLine(f"Line {line} of page {page}: the harbor counts {page * line} ships.")
        canvas.drawText(lines)
        canvas.showPage()
    canvas.save()


if __name__ == "__main__":
    main()
