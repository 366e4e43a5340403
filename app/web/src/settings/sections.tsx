/** What the settings consist of, and for whom each part is. */
import type { ComponentChildren } from "preact";
import { AdminAliasesSection } from "../admin/aliases_section";
import { AdminAuditSection } from "../admin/audit_section";
import { AdminIndexSection } from "../admin/index_section";
import { AdminOrganizationsSection } from "../admin/organizations_section";
import { AdminPricesSection } from "../admin/prices_section";
import { AdminProvidersSection } from "../admin/providers_section";
import { AdminUsersSection } from "../admin/users_section";
import { may, type Permission, user } from "../api/session";
import { ApiKeysSection } from "../organization/api_keys_section";
import { AuditSection } from "../organization/audit_section";
import { BudgetSection } from "../organization/budget_section";
import { MembersSection } from "../organization/members_section";
import { OrganizationSection } from "../organization/organization_section";
import { UsageSection } from "../organization/usage_section";
import { WebhooksSection } from "../organization/webhooks_section";
import { ModelsSection } from "./models_section";
import { ProfileSection } from "./profile_section";
import { SecuritySection } from "./security_section";
import { StorageSection } from "./storage_section";

export interface Section {
  /** The last part of its address. */
  name: string;
  title: string;
  content: () => ComponentChildren;
  /** Who may use it; everybody when it names none. */
  needs?: Permission | "operator";
}

interface Group {
  title: string;
  sections: readonly Section[];
}

const GROUPS: readonly Group[] = [
  {
    title: "Personal",
    sections: [
      { name: "profile", title: "Profile", content: () => <ProfileSection /> },
      { name: "security", title: "Password and sign-ins", content: () => <SecuritySection /> },
      { name: "models", title: "Models", content: () => <ModelsSection /> },
      { name: "storage", title: "Storage", content: () => <StorageSection /> },
      { name: "api-keys", title: "API keys", content: () => <ApiKeysSection />, needs: "manage_keys" },
    ],
  },
  {
    title: "Organization",
    sections: [
      { name: "organization", title: "General", content: () => <OrganizationSection /> },
      { name: "members", title: "Members", content: () => <MembersSection /> },
      { name: "usage", title: "Usage", content: () => <UsageSection /> },
      { name: "budget", title: "Budget", content: () => <BudgetSection /> },
      { name: "webhooks", title: "Webhooks", content: () => <WebhooksSection />, needs: "manage_organization" },
      { name: "audit", title: "Audit log", content: () => <AuditSection />, needs: "manage_organization" },
    ],
  },
  {
    title: "Deployment",
    sections: [
      { name: "admin-users", title: "All users", content: () => <AdminUsersSection />, needs: "operator" },
      {
        name: "admin-organizations",
        title: "All organizations",
        content: () => <AdminOrganizationsSection />,
        needs: "operator",
      },
      { name: "admin-prices", title: "Prices", content: () => <AdminPricesSection />, needs: "operator" },
      { name: "admin-aliases", title: "Model names", content: () => <AdminAliasesSection />, needs: "operator" },
      { name: "admin-providers", title: "Providers", content: () => <AdminProvidersSection />, needs: "operator" },
      { name: "admin-index", title: "Search index", content: () => <AdminIndexSection />, needs: "operator" },
      { name: "admin-audit", title: "Whole audit log", content: () => <AdminAuditSection />, needs: "operator" },
    ],
  },
];

/** What the person who is signed in may use. */
export function usableGroups(): Group[] {
  const usable = GROUPS.map(({ title, sections }) => ({ title, sections: sections.filter(isUsable) }));
  return usable.filter(({ sections }) => sections.length > 0);
}

/** Undefined: there is no such section, or it is for others. */
export const findSection = (name: string): Section | undefined =>
  GROUPS.flatMap(({ sections }) => sections.filter(isUsable)).find((section) => section.name === name);

/** Whether the section exists, for whomever. */
export const isSection = (name: string): boolean =>
  GROUPS.some(({ sections }) => sections.some((section) => section.name === name));

function isUsable({ needs }: Section): boolean {
  if (needs === "operator") return user.value?.is_operator ?? false;
  return needs === undefined || may(needs);
}
