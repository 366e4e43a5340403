"""Numbers as people write them, without what a programming language would take besides."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

# Decimal takes `1_0`, `1e2` and the digits of any script.
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _check_plain(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and not _PLAIN.fullmatch(value)):
        raise ValueError("a number, like 5 or 12.50")
    return value


PlainDecimal = Annotated[Decimal, BeforeValidator(_check_plain)]
