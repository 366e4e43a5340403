import type { Schemas } from "../api/client";

export type Role = Schemas["MemberRole"];

/** From the most to the least that they may do. */
export const ROLES: readonly Role[] = ["owner", "admin", "member", "viewer"];

const NAMES: Record<Role, string> = { owner: "Owner", admin: "Administrator", member: "Member", viewer: "Viewer" };
const DUTIES: Record<Role, string> = {
  owner: "Everything, also to hand over and delete the organization.",
  admin: "Also members, settings, budgets, webhooks and all API keys.",
  member: "Adds documents, asks, and makes API keys of their own.",
  viewer: "Reads the shared documents and asks.",
};

export const roleName = (role: Role): string => NAMES[role];

/** What somebody with the role may do, in a sentence. */
export const roleDuty = (role: Role): string => DUTIES[role];
