// What a program for OpenAI's file search does, by the unmodified `openai` package.
// Arguments: base URL, key, model, a PDF. Prints one line of JSON.
import { createReadStream } from "node:fs";

import OpenAI from "openai";

const [baseURL, apiKey, model, pdf] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const question = "How many zebras does the zoo keep?";
const said = {};

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

said.models = (await client.models.list()).data.map(({ id }) => id);
said.model = (await client.models.retrieve(model)).id;

const embedded = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["one", "two"] });
said.embeddings = embedded.data.map(({ embedding }) => embedding.length);

const plain = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: question }],
});
said.plain = plain.choices[0].message.content;

const file = await client.files.create({ file: createReadStream(pdf), purpose: "assistants" });
const store = await client.vectorStores.create({ name: "Zoo" });
const stored = await client.vectorStores.files.createAndPoll(
  store.id,
  { file_id: file.id, attributes: { year: 2023 } },
  { pollIntervalMs: 50 },
);
said.stored = stored.status;

const batch = await client.vectorStores.fileBatches.createAndPoll(
  store.id,
  { file_ids: [file.id], attributes: { year: 2024 } },
  { pollIntervalMs: 50 },
);
said.batch = batch.file_counts.completed;

const found = await client.vectorStores.search(store.id, {
  query: question,
  filters: { type: "eq", key: "year", value: 2024 },
});
said.found = found.data.map(({ filename }) => filename);

const cited = await client.chat.completions.create({
  model: `${model}+docs`,
  messages: [{ role: "user", content: question }],
});
said.annotations = cited.choices[0].message.annotations.map(({ type }) => type);

const chunks = client.chat.completions.stream({
  model: `${model}+docs`,
  messages: [{ role: "user", content: question }],
  stream_options: { include_usage: true },
});
said.streamed = (await chunks.finalChatCompletion()).choices[0].message.content;
said.usage = (await chunks.totalUsage()).total_tokens > 0;

const tools = [{ type: "file_search", vector_store_ids: [store.id] }];
const response = await client.responses.create({ model, input: question, tools });
said.response = response.output_text;
said.file = response.output.at(-1).content[0].annotations[0].file_id === file.id;

const events = [];
const stream = client.responses.stream({ model, input: question, tools });
for await (const event of stream) events.push(event.type);
said.events = [...new Set(events)];
said.final = (await stream.finalResponse()).output_text;
said.kept = (await client.responses.retrieve(response.id)).output_text;

const wrong = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
const messages = [{ role: "user", content: question }];
said.errors = [
  await failure(wrong.models.list()),
  await failure(client.files.retrieve("file-none")),
  await failure(client.chat.completions.create({ model, messages, n: 2 })),
  await failure(client.chat.completions.create({ model, messages: [] })),
];

said.deleted = (await client.files.delete(file.id)).deleted;
console.log(JSON.stringify(said));
