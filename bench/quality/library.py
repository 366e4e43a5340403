"""An organization of its own for each corpus, filled through the API with several connections."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from bench.quality.sets import Corpus, Upload

CONNECTIONS = 4
_PASSWORD = "correct horse"  # noqa: S105  # of accounts that live as long as a benchmark
_POLL_S = 1.0
_STUCK_S = 300


@dataclass(frozen=True, slots=True)
class Library:
    """A filled organization: who signs in to it, and its documents' ids by name."""

    email: str
    documents: dict[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    """Signed in to one organization. Safe to use by several threads."""

    client: httpx2.Client
    email: str
    headers: dict[str, str]

    def call(self, method: str, path: str, **options: Any) -> Any:
        response = self.client.request(method, path, headers=self.headers, **options)
        if response.is_error:
            raise SystemExit(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json()


def register(client: httpx2.Client) -> Session:
    email = f"bench-{uuid4().hex}@example.com"
    tokens = client.post(
        "/api/v1/auth/register", json={"email": email, "password": _PASSWORD}
    ).raise_for_status()
    return _session(client, email, tokens)


def login(client: httpx2.Client, email: str) -> Session:
    tokens = client.post(
        "/api/v1/auth/login", data={"username": email, "password": _PASSWORD}
    ).raise_for_status()
    return _session(client, email, tokens)


def open_library(
    client: httpx2.Client, corpus: Corpus, kept: Path | None
) -> tuple[Session, Library]:
    """Return the corpus' library: the one listed in `kept`, or a new one, which is listed there.

    Prints how long uploading and ingestion took.
    """
    listed: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    if entry := listed.get(corpus.fingerprint):
        library = Library(**entry)
        return login(client, library.email), library
    session = register(client)
    library = Library(session.email, fill(session, corpus))
    if kept:
        listed[corpus.fingerprint] = asdict(library)
        kept.write_text(json.dumps(listed))
    return session, library


def fill(session: Session, corpus: Corpus) -> dict[str, str]:
    """Upload every document and wait until none is pending. Returns their ids by name.

    The same bytes twice are one document. One that fails stays without chunks, and is printed.
    """
    started = time.perf_counter()
    names = list(corpus.documents)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        ids = list(pool.map(lambda name: _upload(session, corpus.documents[name]), names))
    _wait(session)
    elapsed_s = time.perf_counter() - started
    print(f"{corpus.name}: {len(set(ids))} documents ready after {elapsed_s:.0f} s", flush=True)
    for document in session.call("GET", "/api/v1/documents?status=failed&limit=200")["items"]:
        print(f"  failed: {document['filename']}: {document['error_code']}", flush=True)
    return dict(zip(names, ids, strict=True))


def chunks_of(session: Session, document_id: str) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a document, in order."""
    after: int | None = -1
    while after is not None:
        path = f"/api/v1/documents/{document_id}/chunks?limit=200&after={after}"
        page = session.call("GET", path)
        yield from page["items"]
        after = page["next_after"]


def _session(client: httpx2.Client, email: str, tokens: httpx2.Response) -> Session:
    return Session(client, email, {"Authorization": f"Bearer {tokens.json()['access_token']}"})


def _upload(session: Session, upload: Upload) -> str:
    files = {"file": (upload.filename, upload.read())}
    return str(session.call("POST", "/api/v1/documents/upload", files=files)["document_id"])


def _wait(session: Session) -> None:
    """Wait until nothing is pending. Exits when nothing gets on."""
    pending, since = None, time.monotonic()
    while (now := _pending(session)) != 0:
        if now != pending:
            pending, since = now, time.monotonic()
        if time.monotonic() - since > _STUCK_S:
            raise SystemExit(f"{now} documents are pending, and none got ready for {_STUCK_S} s")
        time.sleep(_POLL_S)


def _pending(session: Session) -> int:
    """Count what is queued, by the newest one's place, and what is in work, at most a page."""
    queued, working = (
        session.call("GET", f"/api/v1/documents?status={status}&limit={limit}")["items"]
        for status, limit in (("queued", 1), ("processing", 50))
    )
    return sum(int(document["queue_position"]) for document in queued) + len(working)
