// Asks through the proxy with both SDKs: client.mjs BASE_URL TOKEN.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const [base, token] = process.argv.slice(2);
const messages = [{ role: "user", content: "apple" }];

const claude = new Anthropic({ baseURL: base, apiKey: token });
const plain = await claude.messages.create({ model: "m", max_tokens: 10, messages });
console.log("anthropic plain:", plain.content[0].text);
const stream = claude.messages.stream({ model: "m", max_tokens: 10, messages });
console.log("anthropic streamed:", await stream.finalText());

const gpt = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: token });
const answer = await gpt.chat.completions.create({ model: "m", messages });
console.log("openai plain:", answer.choices[0].message.content);
let text = "";
for await (const chunk of await gpt.chat.completions.create({ model: "m", messages, stream: true })) {
  text += chunk.choices[0].delta.content ?? "";
}
console.log("openai streamed:", text);
const response = await gpt.responses.create({ model: "m", input: "apple" });
console.log("openai response:", response.output_text);

const refused = async (name, ask) => {
  try {
    await ask();
  } catch (error) {
    console.log(`${name} refused:`, error.status);
  }
};
const stranger = new Anthropic({ baseURL: base, apiKey: "placeholder" });
await refused("anthropic", () => stranger.messages.create({ model: "m", max_tokens: 10, messages }));
const other = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: "sk-other" });
await refused("openai", () => other.models.list());
