import { api, read } from "../api/client";

/** What to call each member, by id: the name that they gave, or else their address. */
export async function loadMemberNames(signal?: AbortSignal): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  let cursor: string | null = null;
  do {
    const query: { limit: number; cursor?: string } = cursor ? { limit: 200, cursor } : { limit: 200 };
    const options = signal ? { params: { query }, signal } : { params: { query } };
    const page = await read(api.GET("/api/v1/organization/members", options));
    for (const { user_id, name, email } of page.items) names.set(user_id, name || email);
    cursor = page.next_cursor;
  } while (cursor);
  return names;
}
