/** All that the audit log may say was done; for filters. A test compares it with the server's table. */
export const ACTIONS = [
  "user.register",
  "user.sign_in",
  "user.sign_out",
  "user.change_profile",
  "user.change_password",
  "user.end_sign_in",
  "user.end_other_sign_ins",
  "api_key.create",
  "api_key.change",
  "api_key.rotate",
  "api_key.revoke",
  "organization.create",
  "organization.switch",
  "organization.change",
  "organization.transfer",
  "organization.delete",
  "invitation.create",
  "invitation.revoke",
  "invitation.accept",
  "member.change_role",
  "member.remove",
  "budget.change",
  "document.upload",
  "document.change",
  "document.replace",
  "document.delete",
  "conversation.delete",
  "vector_store.create",
  "vector_store.change",
  "vector_store.delete",
  "webhook.create",
  "webhook.change",
  "webhook.renew_secret",
  "webhook.replay",
  "webhook.delete",
  "admin.change_user",
  "admin.change_limits",
  "admin.change_model_alias",
  "admin.delete_model_alias",
  "admin.change_price",
  "admin.delete_price",
  "admin.start_reembedding",
  "admin.steer_reembedding",
] as const;

/** "document.delete" is "Document: delete". */
export function actionName(action: string): string {
  const [object = "", verb = ""] = action.split(".");
  const words = object === "api_key" ? "API key" : object.replaceAll("_", " ");
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}: ${verb.replaceAll("_", " ")}`;
}
