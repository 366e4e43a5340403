"""Writes a line of the audit log for each request that changes something, before it is answered.

AUDITED names every such route; what no line is written for stands in UNAUDITED. A test looks for
routes that are in neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.accounts import audit
from app.accounts.audit import AuditEntry
from app.accounts.principal import Principal
from app.accounts.sign_ins import EndedSignIn
from app.accounts.user_agents import name_client
from app.accounts.users import Account
from app.core.db import DATABASE_ERRORS
from app.resources import Resources

log = structlog.get_logger(__name__)

# By method and route. The object is the route's last parameter, or what the handler notes.
AUDITED: Mapping[tuple[str, str], str] = {
    ("POST", "/api/v1/auth/register"): "user.register",
    ("POST", "/api/v1/session/register"): "user.register",
    ("POST", "/api/v1/auth/login"): "user.sign_in",
    ("POST", "/api/v1/session"): "user.sign_in",
    ("POST", "/api/v1/auth/logout"): "user.sign_out",
    ("DELETE", "/api/v1/session"): "user.sign_out",
    ("PATCH", "/api/v1/auth/me"): "user.change_profile",
    ("POST", "/api/v1/auth/password"): "user.change_password",
    ("POST", "/api/v1/session/password"): "user.change_password",
    ("DELETE", "/api/v1/auth/sign-ins"): "user.end_other_sign_ins",
    ("DELETE", "/api/v1/auth/sign-ins/{sign_in_id}"): "user.end_sign_in",
    ("POST", "/api/v1/api-keys"): "api_key.create",
    ("PATCH", "/api/v1/api-keys/{key_id}"): "api_key.change",
    ("POST", "/api/v1/api-keys/{key_id}/rotate"): "api_key.rotate",
    ("DELETE", "/api/v1/api-keys/{key_id}"): "api_key.revoke",
    ("POST", "/api/v1/organizations"): "organization.create",
    ("POST", "/api/v1/organizations/{organization_id}/switch"): "organization.switch",
    ("POST", "/api/v1/session/switch"): "organization.switch",
    ("PATCH", "/api/v1/organization"): "organization.change",
    ("DELETE", "/api/v1/organization"): "organization.delete",
    ("POST", "/api/v1/organization/transfer"): "organization.transfer",
    ("POST", "/api/v1/organization/invitations"): "invitation.create",
    ("DELETE", "/api/v1/organization/invitations/{invitation_id}"): "invitation.revoke",
    ("POST", "/api/v1/invitations/accept"): "invitation.accept",
    ("PATCH", "/api/v1/organization/members/{user_id}"): "member.change_role",
    ("DELETE", "/api/v1/organization/members/{user_id}"): "member.remove",
    ("PUT", "/api/v1/budget"): "budget.change",
    ("POST", "/api/v1/documents/upload"): "document.upload",
    ("POST", "/api/v1/uploads"): "document.upload",
    ("POST", "/v1/files"): "document.upload",
    ("PATCH", "/api/v1/documents/{document_id}"): "document.change",
    ("PUT", "/api/v1/documents/{document_id}/content"): "document.replace",
    ("DELETE", "/api/v1/documents/{document_id}"): "document.delete",
    ("DELETE", "/v1/files/{file_id}"): "document.delete",
    ("DELETE", "/api/v1/conversations/{conversation_id}"): "conversation.delete",
    ("DELETE", "/v1/responses/{response_id}"): "conversation.delete",
    ("POST", "/v1/vector_stores"): "vector_store.create",
    ("POST", "/v1/vector_stores/{vector_store_id}"): "vector_store.change",
    ("DELETE", "/v1/vector_stores/{vector_store_id}"): "vector_store.delete",
    ("POST", "/api/v1/webhooks"): "webhook.create",
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): "webhook.change",
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): "webhook.delete",
    ("POST", "/api/v1/webhooks/{webhook_id}/secret"): "webhook.renew_secret",
    ("POST", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): "webhook.replay",
    ("PATCH", "/api/v1/admin/users/{user_id}"): "admin.change_user",
    ("PUT", "/api/v1/admin/organizations/{org_id}/limits"): "admin.change_limits",
    ("PUT", "/api/v1/admin/model-aliases/{name}"): "admin.change_model_alias",
    ("DELETE", "/api/v1/admin/model-aliases/{name}"): "admin.delete_model_alias",
    ("PUT", "/api/v1/admin/prices/{model:path}"): "admin.change_price",
    ("DELETE", "/api/v1/admin/prices/{model:path}"): "admin.delete_price",
    ("POST", "/api/v1/admin/embedding-spaces"): "admin.start_reembedding",
    ("POST", "/api/v1/admin/embedding-spaces/{space_id}/{action}"): "admin.steer_reembedding",
}
# What is written of nobody that is known. Attempts are limited; anything else a stranger could do
# until the disk is full.
_OF_STRANGERS = frozenset({("user.sign_in", HTTPStatus.UNAUTHORIZED)})
# Reviewed: they read, ask, or go on with what has a line, and would drown the others.
UNAUDITED: frozenset[tuple[str, str]] = frozenset(
    {
        ("POST", "/api/v1/auth/refresh"),
        ("POST", "/api/v1/session/refresh"),
        ("POST", "/api/v1/invitations/look-up"),
        ("POST", "/api/v1/search"),
        ("POST", "/api/v1/chat/"),
        ("POST", "/api/v1/chat/stream"),
        ("POST", "/api/v1/chat/runs"),
        ("POST", "/api/v1/chat/runs/{run_id}/cancel"),
        ("POST", "/api/v1/chat/runs/{run_id}/events"),
        ("POST", "/api/v1/conversations"),
        ("PATCH", "/api/v1/conversations/{conversation_id}"),
        ("PUT", "/api/v1/conversations/{conversation_id}/messages/{message_id}/feedback"),
        ("POST", "/api/v1/documents/events"),
        ("POST", "/api/v1/documents/{document_id}/cancel"),
        ("POST", "/api/v1/documents/{document_id}/retry"),
        ("PATCH", "/api/v1/uploads/{upload_id}"),
        ("DELETE", "/api/v1/uploads/{upload_id}"),
        ("POST", "/api/v1/webhooks/{webhook_id}/test"),
        ("POST", "/api/v1/admin/index/measure"),
        # Its tools call the routes above.
        ("POST", "/mcp"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/responses/{response_id}/cancel"),
        ("POST", "/v1/vector_stores/{vector_store_id}/search"),
        ("POST", "/v1/vector_stores/{vector_store_id}/files"),
        ("POST", "/v1/vector_stores/{vector_store_id}/files/{file_id}"),
        ("DELETE", "/v1/vector_stores/{vector_store_id}/files/{file_id}"),
        ("POST", "/v1/vector_stores/{vector_store_id}/file_batches"),
        ("POST", "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel"),
    }
)


@dataclass(slots=True)
class AuditNote:
    """What only the handler of a request knows about it."""

    object_id: str | None = None
    org_id: UUID | None = None
    user_id: UUID | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def name(self, person: Account | EndedSignIn | None) -> None:
        """Say who it is that no credential named."""
        if person is not None:
            self.org_id, self.user_id = person.org_id, person.user_id

    def tell_operator(self, person: Account) -> None:
        """Of who registers first, and so operates a local installation."""
        if person.is_operator:
            self.details["is_operator"] = True


def audit_note(request: HTTPConnection) -> AuditNote:
    """Return the note that goes with the request, to be filled in."""
    note: AuditNote | None = getattr(request.state, "audit_note", None)
    if note is None:
        note = request.state.audit_note = AuditNote()
    return note


Noted = Annotated[AuditNote, Depends(audit_note)]


class AuditTrail:
    """A line that can't be written is logged: what it is about has happened already."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def write_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await _write(scope, message["status"])
            await send(message)

        await self.app(scope, receive, write_and_send)


async def _write(scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")
    action = AUDITED.get((scope["method"], route))
    if action is None or status == HTTPStatus.TOO_MANY_REQUESTS:
        return  # a flood that is held back would go on in the log
    entry = _describe(scope, action, status)
    if entry.user_id is None and (action, status) not in _OF_STRANGERS:
        return
    resources: Resources = scope["app"].state.resources
    try:
        async with resources.db.system_transaction() as session:
            await audit.append(session, entry)
    except DATABASE_ERRORS as error:
        log.error("audit_line_lost", action=action, status=status, error=type(error).__name__)


def _describe(scope: Scope, action: str, status: int) -> AuditEntry:
    request = HTTPConnection(scope)
    note = audit_note(request)
    caller: Principal | None = getattr(request.state, "principal", None)
    parameters = list(scope.get("path_params", {}).values())
    return AuditEntry(
        action=action,
        status=status,
        address=request.client.host if request.client else "",
        client=name_client(Headers(scope=scope).get("user-agent", "")),
        request_id=request.state.request_id,
        org_id=note.org_id or (caller.org_id if caller else None),
        user_id=note.user_id or (caller.user_id if caller else None),
        key_id=caller.key_id if caller else None,
        object_id=note.object_id or (str(parameters[-1])[:200] if parameters else None),
        details=note.details,
    )
