"""What of a vendor's vectors gets through."""

import numpy as np
import pytest

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.vectors import unit_rows


def test_rows_keep_their_order_and_get_length_1() -> None:
    rows = unit_rows([[3.0, 4.0], [0.0, -2.0], [1e-30, 0.0]], count=3, provider="p")

    assert rows.dtype == np.float32
    assert np.allclose(rows, [[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 0.0]],
        [[1.0, 0.0]] * 3,
        [[1.0, 0.0], [1.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [float("nan"), 0.0]],
        [[1.0, 0.0], [float("inf"), 0.0]],
        [[1.0, 0.0], [1e39, 0.0]],  # no float32
        [[1.0, 0.0], [None, 0.0]],
        [[1.0, 0.0], None],
        [[1.0, 0.0], {"0": 1.0}],
        [[1.0, 0.0], ["x", "y"]],
        [[[1.0]], [[1.0]]],
        [[], []],
        [],
        [1.0, 0.0],
        [10**400, 1],
    ],
)
def test_anything_else_is_a_protocol_error(rows: list[object]) -> None:
    with pytest.raises(ProviderError) as caught:
        unit_rows(rows, count=2, provider="p")

    assert caught.value.kind is ProviderErrorKind.PROTOCOL
