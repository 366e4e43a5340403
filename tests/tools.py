"""Programs that some tests need beside the product."""

import os
import shutil

import pytest


def find_tool(command: str, package: str) -> str:
    """Return the path of a program. Without it the test is skipped, and fails where CI=true."""
    path = shutil.which(command)
    if path is None:
        message = f"{command} is not installed: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
