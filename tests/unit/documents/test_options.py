"""Options of an upload: what is understood, and in which zone."""

from datetime import UTC, datetime

import pytest

from app.core.errors import UnprocessableRequest
from app.documents.options import MAX_PASSWORD_CHARS, UploadOptions, parse_options


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2099-06-01T12:00:00Z", 12),
        ("2099-06-01T12:00:00+02:00", 10),
        ("2099-06-01T12:00-03:00", 15),
        ("20990601T120000Z", 12),
    ],
)
def test_an_expiry_in_any_zone_is_kept_in_utc(written: str, hour: int) -> None:
    expires_at = parse_options({"expires_at": [written]}).expires_at
    assert expires_at == datetime(2099, 6, 1, hour, tzinfo=UTC)
    assert expires_at.utcoffset() == datetime.now(UTC).utcoffset()


@pytest.mark.parametrize("written", ["2099-06-01", "2099-06-01T12:00", "soon", "1", "NaN", "2000"])
def test_an_expiry_that_is_not_clear_is_refused(written: str) -> None:
    with pytest.raises(UnprocessableRequest) as caught:
        parse_options({"expires_at": [written]})
    assert caught.value.param == "expires_at"


def test_the_longest_password_is_taken_as_it_is() -> None:
    password = " ü" * (MAX_PASSWORD_CHARS // 2)
    assert parse_options({"password": [password]}).password == password
    with pytest.raises(UnprocessableRequest):
        parse_options({"password": [password + "x"]})


def test_a_password_is_not_shown_where_the_options_are() -> None:
    assert "sesame" not in repr(UploadOptions(password="sesame"))
