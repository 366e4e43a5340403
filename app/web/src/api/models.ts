/** The models at hand, asked for once and again when somebody looks. */
import { api, read, type Schemas } from "./client";
import { perUser } from "./session";

export const models = perUser<Schemas["ModelCatalogOut"] | null>(null);

const STATES = new Map([
  ["ok", "Ready"],
  ["unreachable", "Not reachable"],
  ["unconfigured", "Not connected"],
  ["unusable", "Can't be used with these settings"],
  ["unknown", "Not known now"],
]);
const NAMES = new Map([
  ["extractive/extractive", "Quotes without a model"],
  ["extractive", "Quotes without a model"],
  ["ollama", "Ollama"],
  ["openai", "OpenAI"],
  ["azure", "Azure OpenAI"],
  ["compatible", "OpenAI-compatible server"],
  ["openrouter", "OpenRouter"],
  ["anthropic", "Anthropic"],
  ["gemini", "Gemini"],
]);

/** Leaves what is known when the server can't be reached. */
export async function loadModels(): Promise<void> {
  models.value = await read(api.GET("/api/v1/models")).catch(() => models.value);
}

/** What people call a state of a model or its provider. */
export const stateName = (state: string): string => STATES.get(state) ?? state;

/** What people call a provider, or the model of an id such as `openai/gpt-5`. */
export const modelName = (id: string): string => NAMES.get(id) ?? id.slice(id.indexOf("/") + 1);
