"""What a plan allows: the one table of limits."""

from enum import StrEnum


class Feature(StrEnum):
    """What is counted apart, because it costs apart."""

    CHAT = "chat"
    SEARCH = "search"
    UPLOAD = "upload"
    EMBEDDING = "embedding"
