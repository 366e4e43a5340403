"""The only HTTP routes. ROUTERS is in the order of the OpenAPI page."""

from fastapi import APIRouter

from app.routers import auth, chat, documents, health, search

ROUTERS: dict[str, APIRouter] = {
    "auth": auth.router,
    "documents": documents.router,
    "search": search.router,
    "chat": chat.router,
    "health": health.router,
}
