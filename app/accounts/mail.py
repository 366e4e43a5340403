"""Mail to people: through the SMTP server of SMTP_URL, or, without one, not at all.

In local mode the link of a mail is logged instead, and nothing else of it.
"""

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

import structlog

from app.config import Settings

log = structlog.get_logger(__name__)

_TIMEOUT_S = 10.0
_DEFAULT_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Mail:
    """`text` holds `link`, which is as secret as what it opens."""

    to: str
    subject: str
    text: str
    link: str = field(repr=False)


class MailFailed(Exception):
    """The mail server did not take a mail. Says nothing of what was in it."""


class MailSender(Protocol):
    """Takes mails to people. `is_delivering`: they leave this deployment."""

    @property
    def is_delivering(self) -> bool: ...

    async def send(self, mail: Mail) -> None:
        """Raises MailFailed."""
        ...


@dataclass(frozen=True, slots=True)
class LogMailSender:
    """For a laptop: the link is in the log. In production `logs` is off, and nobody reads it."""

    logs: bool
    is_delivering: bool = False

    async def send(self, mail: Mail) -> None:
        if self.logs:
            log.info("mail_link", link=mail.link)


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where SMTP_URL points. The connection is encrypted unless `starttls=false` says otherwise."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    is_tls: bool = False
    is_starttls: bool = True

    @classmethod
    def of(cls, url: str) -> Self:
        """Take apart `smtp://user:password@host:587?from=a@example.com`, or `smtps://…`.

        Settings have checked it.
        """
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        is_tls = parts.scheme == "smtps"
        return cls(
            host=parts.hostname or "",
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            sender=options["from"][0],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            is_tls=is_tls,
            is_starttls=not is_tls and options.get("starttls") != ["false"],
        )


@dataclass(frozen=True, slots=True)
class SmtpMailSender:
    """Sends each mail over a connection of its own, in a thread."""

    server: SmtpServer
    is_delivering: bool = True

    async def send(self, mail: Mail) -> None:
        try:
            await asyncio.to_thread(self._send, mail)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            # Not its text: servers repeat addresses in it.
            log.warning("mail_not_sent", error=type(error).__name__)
            raise MailFailed from error

    def _send(self, mail: Mail) -> None:
        server = self.server
        context = ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(server.host, server.port, timeout=_TIMEOUT_S, context=context)
            if server.is_tls
            else smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S) as connection
        ):
            if server.is_starttls:
                connection.starttls(context=context)
            if server.user:
                connection.login(server.user, server.password)
            # To this very address, whatever a reader of headers makes of it.
            message = _to_message(mail, sender=server.sender)
            connection.send_message(message, to_addrs=[mail.to])


def make_mail_sender(settings: Settings) -> MailSender:
    url = settings.smtp_url.get_secret_value()
    if url:
        return SmtpMailSender(SmtpServer.of(url))
    return LogMailSender(logs=not settings.is_production)


def _to_message(mail: Mail, *, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].rstrip(">") or None)
    # Mail programs and relays must not count what is in it as a list's.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message
