"""What import-linter can't say: who may look across organizations, and that jobs have tasks."""

import ast
import re
from pathlib import Path

from app.core.jobs import JobName

ROOT = Path(__file__).parents[2]

# Reviewed: each of these works before there is an organization, or for several at once.
MAY_SEE_ALL_ORGANIZATIONS = {
    "app/accounts/api_key_uses.py",  # one statement for all keys that were used
    "app/accounts/authentication.py",  # who this is
    "app/accounts/credentials.py",  # which sign-in or key is this
    "app/audit_trail.py",  # a line may be about nobody's organization
    "app/chat/run_rows.py",  # one statement for all runs that a process makes or reads
    "app/core/db.py",  # defines it
    "app/documents/feed.py",  # one look for everybody who watches; each is told of their own
    "app/documents/cleanup.py",  # what has expired, and blobs without a document
    "app/documents/deletion.py",  # purge what was deleted
    "app/documents/housekeeping.py",  # delete what has expired
    "app/documents/organization_removal.py",  # remove deleted ones
    "app/ingestion/embedding_admin.py",  # spaces hold every organization's vectors
    "app/ingestion/kept_spaces.py",  # which spaces are kept
    "app/ingestion/pipeline.py",  # claim the next document, make an embedding space
    "app/ingestion/recognition.py",  # claim the next pages
    "app/ingestion/reembedding.py",  # add the vectors that a space lacks
    "app/ingestion/sweep.py",
    "app/llm/model_aliases.py",  # of the deployment: no tenant's data
    "app/retrieval/spaces.py",  # holds no tenant's data
    "app/retrieval/recall.py",  # which organizations to measure; each is asked as itself
    "app/routers/admin.py",  # users and organizations, for operators
    "app/routers/audit.py",  # names of users; lines of all organizations, for operators
    "app/routers/auth.py",  # a user's profile and sign-ins
    "app/routers/health.py",
    "app/routers/invitations.py",  # who joins is in another one, and users are in none
    "app/routers/members.py",  # users and their sign-ins are in no organization
    "app/routers/organization.py",  # its deletion ends what is in none
    "app/routers/organizations.py",  # those that somebody is in
    "app/routers/price_admin.py",  # prices of the deployment, for operators
    "app/usage/budgets.py",  # settle what dead processes hold, for whichever organization
    "app/usage/metering.py",  # one statement for all calls that a process has under way
    "app/routers/index_admin.py",  # sizes of all of them, for operators
    "app/routers/limits.py",  # the plan of any of them, for operators
    "app/webhooks/courier.py",  # what is due, for whichever organization
}


def test_only_reviewed_modules_open_system_transactions() -> None:
    callers = {
        path.relative_to(ROOT).as_posix()
        for package in ("app", "worker")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "system_transaction")
        or (isinstance(node, ast.AsyncFunctionDef) and node.name == "system_transaction")
    }
    assert callers == MAY_SEE_ALL_ORGANIZATIONS


def test_every_job_has_a_task() -> None:
    source = (ROOT / "worker" / "tasks.py").read_text()
    for job in JobName:
        assert f"name=JobName.{job.name})" in source


def test_every_module_says_what_it_is_for() -> None:
    for package in ("app", "worker", "bench"):
        for path in (ROOT / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_every_advisory_lock_has_a_key_of_its_own() -> None:
    """Two things under one key would wait for each other, for as long as an index is built."""
    keys = [
        int(key)
        for path in sorted((ROOT / "app").rglob("*.py"))
        for key in re.findall(r"(?:advisory\w*lock\(|_LOCK\w* = )([\d_]+)", path.read_text())
    ]
    assert len(keys) >= 6
    assert len(keys) == len(set(keys)), keys
