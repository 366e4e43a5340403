"""A mail server for tests: takes what is sent to it, over a real socket."""

import asyncio
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType


@dataclass(slots=True)
class SmtpServer:
    """`refuses`: answer MAIL with a refusal. `has_starttls`: say so, but never begin it."""

    refuses: bool = False
    has_starttls: bool = False
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> "SmtpServer":
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := await reader.readline():
            command = line.decode().strip()
            self.commands.append(command)
            writer.write(await self._answer(command, reader, writer))
            if command.upper() == "QUIT":
                break
        writer.close()

    async def _answer(
        self, command: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        match command.upper().split()[:1]:
            case ["EHLO"]:
                offers = [b"AUTH PLAIN", *([b"STARTTLS"] if self.has_starttls else [])]
                lines = [b"250-test", *(b"250-" + offer for offer in offers), b"250 SMTPUTF8"]
                return b"\r\n".join(lines) + b"\r\n"
            case ["STARTTLS"]:
                return b"454 not now\r\n"
            case ["AUTH"]:
                return b"235 welcome\r\n"
            case ["MAIL"] if self.refuses:
                return b"550 no mail from you\r\n"
            case ["RCPT"]:
                self.recipients.append(command.partition("<")[2].partition(">")[0])
                return b"250 ok\r\n"
            case ["DATA"]:
                writer.write(b"354 go on\r\n")
                body = await reader.readuntil(b"\r\n.\r\n")
                mail = message_from_bytes(body[:-3], policy=default)
                assert isinstance(mail, EmailMessage)
                self.mails.append(mail)
                return b"250 taken\r\n"
            case ["QUIT"]:
                return b"221 bye\r\n"
            case _:
                return b"250 ok\r\n"
