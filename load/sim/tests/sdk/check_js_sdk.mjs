// Checks a running simulator with Google's own JavaScript SDK.
//
// Usage: npm install && node check_js_sdk.mjs http://127.0.0.1:8090
// Prints a line per check and ends with "N passed, M failed"; the exit code is 1 when one failed.

import assert from "node:assert/strict";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } from "@google/genai";

const baseUrl = process.argv[2].replace(/\/$/, "");
const model = "gemini-3.8-flash";
const client = (apiKey = "test-key") => new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const ai = client();

const parameters = { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] };
const zone = { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] };
const tools = [
  {
    functionDeclarations: [
      { name: "get_weather", description: "Weather for a city", parameters },
      { name: "get_time", description: "Time in a zone", parametersJsonSchema: zone },
    ],
  },
];

async function collect(contents, config) {
  const chunks = [];
  for await (const chunk of await ai.models.generateContentStream({ model, contents, config })) chunks.push(chunk);
  return chunks;
}

async function status(promise) {
  const error = await promise.then(() => undefined, (error) => error);
  assert.ok(error instanceof ApiError, String(error));
  return error.status;
}

const checks = {
  async "lists models in pages"() {
    const names = [];
    for await (const found of await ai.models.list({ config: { pageSize: 4 } })) names.push(found.name);
    assert.ok(names.length > 4 && names.includes(`models/${model}`));
  },
  async "gets a model"() {
    assert.equal((await ai.models.get({ model })).inputTokenLimit, 1048576);
  },
  async "generates text"() {
    const answer = await ai.models.generateContent({ model, contents: "What is the capital of France?" });
    assert.match(answer.text, /Paris/);
    assert.equal(answer.candidates[0].finishReason, "STOP");
  },
  async "chats two turns"() {
    const chat = ai.chats.create({ model });
    await chat.sendMessage({ message: "I like otters" });
    assert.match((await chat.sendMessage({ message: "What did I say before?" })).text, /otters/);
  },
  async "streams"() {
    const chunks = await collect("[[tokens 40]]");
    assert.equal(chunks.map((chunk) => chunk.text ?? "").join("").split(/\s+/).length, 40);
    assert.equal(chunks.at(-1).candidates[0].finishReason, "STOP");
    assert.equal(new Set(chunks.map((chunk) => chunk.responseId)).size, 1);
  },
  async "streams thoughts"() {
    const chunks = await collect("why?", { thinkingConfig: { includeThoughts: true, thinkingLevel: "HIGH" } });
    assert.equal(chunks[0].candidates[0].content.parts[0].thought, true);
  },
  async "counts tokens"() {
    assert.ok((await ai.models.countTokens({ model, contents: "How many?" })).totalTokens > 0);
  },
  async "calls a function"() {
    const user = { role: "user", parts: [{ text: "What is the weather in Paris?" }] };
    const first = await ai.models.generateContent({ model, contents: [user], config: { tools } });
    const call = first.functionCalls[0];
    assert.deepEqual([call.name, call.args], ["get_weather", { city: "Paris" }]);
    const functionResponse = { id: call.id, name: call.name, response: { output: { temp: 21 } } };
    const contents = [user, first.candidates[0].content, { role: "user", parts: [{ functionResponse }] }];
    assert.match((await ai.models.generateContent({ model, contents, config: { tools } })).text, /21/);
  },
  async "streams parallel calls"() {
    const toolConfig = { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } };
    const chunks = await collect("[[parallel]] weather and time", { tools, toolConfig });
    const calls = chunks.flatMap((chunk) => chunk.functionCalls ?? []);
    assert.deepEqual(calls.map((call) => call.name), ["get_weather", "get_time"]);
  },
  async "fills a schema"() {
    const config = { responseMimeType: "application/json", responseSchema: parameters };
    const answer = await ai.models.generateContent({ model, contents: "Give me a city", config });
    assert.equal(typeof JSON.parse(answer.text).city, "string");
  },
  async "raises errors"() {
    const ask = (contents) => ai.models.generateContent({ model, contents });
    assert.equal(await status(ask("[[429]] hi")), 429);
    assert.equal(await status(ask("[[503]] hi")), 503);
    assert.equal(await status(client("not-a-key").models.generateContent({ model, contents: "hi" })), 400);
    assert.equal(await status(ai.models.generateContent({ model: "gemini-0.1-nothing", contents: "hi" })), 404);
  },
  async "raises on an error in mid-stream"() {
    for (const word of ["midstream", "midstream-raw"]) {
      assert.equal(await status(collect(`[[${word}]] tell me a story`)), 503);
    }
  },
  async "notices a dropped connection"() {
    for (const word of ["cut", "truncate"]) await assert.rejects(collect(`[[${word}]] tell me a story`));
    assert.equal((await collect("[[truncate-clean]] tell me a story")).length, 2);
  },
  async "blocks a prompt"() {
    const answer = await ai.models.generateContent({ model, contents: "[[blocked]] hi" });
    assert.equal(answer.promptFeedback.blockReason, "PROHIBITED_CONTENT");
  },
  async "stops for safety and at max tokens"() {
    assert.equal((await collect("[[safety]] hi")).at(-1).candidates[0].finishReason, "SAFETY");
    assert.equal((await collect("hello there", { maxOutputTokens: 2 })).at(-1).candidates[0].finishReason, "MAX_TOKENS");
  },
  async "continues a long answer"() {
    assert.equal((await ai.models.generateContent({ model, contents: "[[continue]] go" })).text, "First half, second half.");
  },
  async "embeds"() {
    const config = { outputDimensionality: 3 };
    const answer = await ai.models.embedContent({ model: "gemini-embedding-2", contents: "a", config });
    assert.equal(answer.embeddings[0].values.length, 3);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
