import type { Schemas } from "../api/client";

export type Webhook = Schemas["WebhookOut"];
export type WebhookEvent = Schemas["WebhookEventType"];
export type Delivery = Schemas["DeliveryOut"];
export type DeliveryDetails = Schemas["DeliveryDetails"];
export type DeliveryStatus = Schemas["DeliveryStatus"];

const NAMES: Record<WebhookEvent, string> = {
  "document.ready": "A document is ready",
  "document.failed": "A document failed",
  "document.deleted": "A document was deleted",
  "run.completed": "An answer is complete",
  "run.failed": "An answer failed",
  "budget.alert": "80 or 100 % of a budget are spent",
};
export const EVENTS = Object.entries(NAMES).map(([event, name]) => ({ event: event as WebhookEvent, name }));

export const isEvent = (name: string): name is WebhookEvent => name in NAMES;

const ERRORS = new Map([
  ["refused", "It did not answer with a 2xx status"],
  ["redirected", "It answered with a redirect, which is not followed"],
  ["timeout", "It did not answer in time"],
  ["connection_failed", "No connection"],
  ["unknown_host", "No such host"],
  ["tls_failed", "Its certificate is not valid"],
  ["blocked_address", "Its address is not a public one"],
  ["invalid_url", "The URL is not valid"],
  ["secret_lost", "The secret can't be read any more: renew it"],
]);

export const errorName = (error: string): string => ERRORS.get(error) ?? error;

export const STATUS_NAMES: Record<DeliveryStatus, string> = {
  pending: "Pending",
  delivered: "Delivered",
  failed: "Failed",
};
