"""The only HTTP routes. ROUTERS is in the order of the OpenAPI page, and in that of matching."""

from fastapi import APIRouter

from app.routers import (
    auth,
    chat,
    conversations,
    deletions,
    document_events,
    documents,
    embedding_spaces,
    health,
    index_admin,
    inspection,
    messages,
    models,
    openai_compat,
    organization,
    resumable,
    runs,
    search,
    uploads,
    web,
    web_session,
)

ROUTERS: dict[str, APIRouter] = {
    # What is called most comes first: a route costs a microsecond to each one behind it.
    "search": search.router,
    "chat": chat.router,
    "auth": auth.router,
    "web_session": web_session.router,
    "organization": organization.router,
    # Before the documents: `upload` is no document's id.
    "uploads": uploads.router,
    "resumable": resumable.router,
    # And `events` is none either.
    "document_events": document_events.router,
    "documents": documents.router,
    "inspection": inspection.router,
    "deletions": deletions.router,
    "conversations": conversations.router,
    "messages": messages.router,
    "runs": runs.router,
    "models": models.router,
    "openai_compat": openai_compat.router,
    "embedding_spaces": embedding_spaces.router,
    "index_admin": index_admin.router,
    "health": health.router,
    "web": web.router,
}
