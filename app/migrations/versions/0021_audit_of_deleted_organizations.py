"""Audit lines of a deleted organization stay, for operators, without what is personal in them."""

from alembic import op

revision = "0021"
down_revision = "0020"

# Who (an id), what, when and with which result stay. From where, with what, and what handlers
# noted go: addresses, names. An object stays where it is an id, for a path can hold any words.
# Lines of operators are about the deployment, and that of the deletion itself says who asked for
# it: these are not the organization's to take along.
_UPGRADE: tuple[str, ...] = (
    """
    CREATE OR REPLACE FUNCTION forget_audit_events(p_org uuid) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        forgotten bigint;
    BEGIN
        IF EXISTS (SELECT FROM organizations WHERE id = p_org AND deleted_at IS NULL) THEN
            RAISE EXCEPTION 'the organization is not deleted';
        END IF;
        UPDATE audit_events
        SET address = '', client = '', details = '{}',
            object_id = substring(object_id FROM '^(?:[a-z]+[-_])?[0-9a-f]{8}[0-9a-f-]{24,28}$')
        WHERE org_id = p_org AND action <> 'organization.delete' AND action NOT LIKE 'admin.%'
          AND (address <> '' OR client <> '' OR details <> '{}');
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        RETURN forgotten;
    END $$
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    """
    CREATE OR REPLACE FUNCTION forget_audit_events(p_org uuid) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        forgotten bigint;
    BEGIN
        IF EXISTS (SELECT FROM organizations WHERE id = p_org AND deleted_at IS NULL) THEN
            RAISE EXCEPTION 'the organization is not deleted';
        END IF;
        DELETE FROM audit_events WHERE org_id = p_org;
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        RETURN forgotten;
    END $$
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
