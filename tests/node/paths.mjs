// The common paths of OpenAI's own client for Node against a running server: one JSON line of what
// it saw. Usage: node paths.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const asked = [{ role: "user", content: "What is the capital of France?" }];
const seen = {};

seen.models = (await client.models.list()).data.map((model) => model.id);
seen.model = (await client.models.retrieve("countries")).id;

const { data, response } = await client.chat.completions
  .create({ model: "countries", messages: asked, seed: 1, max_tokens: 40 })
  .withResponse();
seen.content = data.choices[0].message.content;
seen.finish = data.choices[0].finish_reason;
seen.usage = data.usage;
seen.contributors = data.conclave.contributors;
seen.type = response.headers.get("content-type");

const many = await client.chat.completions.create({ model: "countries", messages: asked, n: 3 });
seen.n = many.choices.length;

seen.pieces = [];
const stream = await client.chat.completions.create({
  model: "countries",
  messages: asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  if (chunk.choices.length) seen.pieces.push(chunk.choices[0].delta.content ?? "");
  if (chunk.usage) seen.streamed_usage = chunk.usage;
}

const helped = client.chat.completions.stream({ model: "countries", messages: asked });
seen.final = (await helped.finalChatCompletion()).choices[0].message.content;

const left = await client.chat.completions.create({ model: "units", messages: asked, stream: true });
for await (const chunk of left) {
  seen.left = chunk.id.length > 0;
  break; // the client hangs up
}

async function refusal(body) {
  try {
    await client.chat.completions.create(body);
    return null;
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
}
seen.unknown = await refusal({ model: "nobody", messages: asked });
seen.invalid = await refusal({ model: "countries", messages: asked, temperature: 7 });
seen.empty = await refusal({ model: "countries", messages: [] });

console.log(JSON.stringify(seen));
