"""Plans and limits of organizations."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # NULL: the plan of the setting DEFAULT_PLAN. The application's role may read both columns, as
    # all of the table, and change neither.
    op.execute(
        """
        ALTER TABLE organizations
            ADD COLUMN plan text CONSTRAINT ck_organizations_plan
                CHECK (plan IN ('free', 'pro', 'enterprise')),
            ADD COLUMN limits jsonb NOT NULL DEFAULT '{}' CONSTRAINT ck_organizations_limits
                CHECK (jsonb_typeof(limits) = 'object')
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE organizations DROP COLUMN limits, DROP COLUMN plan")
