"""The printed names of pages ("iv"), for those who cite them."""

from collections.abc import Collection
from uuid import UUID

import asyncpg

_LABELS = """
    SELECT p.document_id, p.number, p.label
    FROM unnest($2::uuid[], $3::integer[]) AS named (document_id, number)
    JOIN documents d ON d.org_id = $1 AND d.id = named.document_id AND d.deleted_at IS NULL
      AND (d.expires_at IS NULL OR d.expires_at > now())
    JOIN pages p ON p.org_id = $1 AND p.document_id = d.id AND p.generation = d.generation
      AND p.number = named.number
    WHERE p.label IS NOT NULL
"""


async def load_page_labels(
    driver: asyncpg.Connection, org_id: UUID, pages: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], str]:
    """Return the labels of those (document, page number) that have one, as readers see them.

    A page without one is called by its number.
    """
    if not pages:
        return {}
    documents, numbers = zip(*pages, strict=True)
    rows = await driver.fetch(_LABELS, org_id, documents, numbers)
    return {(row["document_id"], row["number"]): row["label"] for row in rows}
