/** The models at hand, asked for once and again when somebody looks. */
import { signal } from "@preact/signals";
import { api, read, type Schemas } from "./client";

export const models = signal<Schemas["ModelCatalogOut"] | null>(null);

/** Leaves what is known when the server can't be reached. */
export async function loadModels(): Promise<void> {
  models.value = await read(api.GET("/api/v1/models")).catch(() => models.value);
}
