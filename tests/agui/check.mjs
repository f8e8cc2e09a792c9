// The official clients, unchanged, against a real server: node check.mjs /path/to/kronos

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { HttpAgent as Agent } from "@ag-ui/client";
import { HttpAgent as AgentBefore1 } from "@ag-ui/client-before-1";
import { CopilotKitCore } from "@copilotkit/core";

import { Kronos, eventually } from "./server.mjs";

// CopilotKit's client connects in a page only.
globalThis.window = globalThis;

// A client that aborts leaves a rejection behind when its connection ends; any other is a failure.
const unhandled = [];
process.on("unhandledRejection", (error) => {
  if (!/terminated|abort/i.test(`${error?.name} ${error?.message}`)) unhandled.push(error);
});

const SUM = '[[call calculate {"expression":"17 * 23"}]] how much is it?';
const ASK = { kronos: { toolPolicy: "ask_all" } };

const user = (content) => ({ id: randomUUID(), role: "user", content });

/** Runs an agent; what it was told. */
async function run(agent, parameters = {}) {
  const events = [];
  const failures = [];
  const result = await agent.runAgent(parameters, {
    onEvent: ({ event }) => void events.push(event),
    onRunFailed: ({ error }) => void failures.push(error),
  });
  return { events, failures, result, last: events.at(-1), of: (type) => events.filter((event) => event.type === type) };
}

function finished(ran, outcome) {
  assert.deepEqual(ran.failures, []);
  assert.equal(ran.last.type, "RUN_FINISHED");
  assert.equal(ran.last.outcome?.type ?? "success", outcome);
}

const cases = {
  async "a plain turn, and another one of the same thread"({ agent }) {
    const one = agent();
    one.addMessage(user("What is the capital of Japan?"));
    const first = await run(one);
    finished(first, "success");
    assert.match(one.messages.at(-1).content, /Tokyo/);
    one.addMessage(user("what did I say before?"));
    const second = await run(one);
    finished(second, "success");
    assert.match(one.messages.at(-1).content, /Japan/);
    assert.equal(one.messages.length, 4);
    const conversation = (ran) => ran.of("RUN_STARTED")[0].metadata.kronos.conversationId;
    assert.equal(conversation(first), conversation(second));
  },

  async "a turn with a tool"({ agent }) {
    const one = agent();
    one.addMessage(user(SUM));
    const ran = await run(one);
    finished(ran, "success");
    assert.equal(ran.of("TOOL_CALL_START")[0].toolCallName, "calculate");
    assert.match(ran.of("TOOL_CALL_RESULT")[0].content, /391/);
    const roles = one.messages.filter(({ role }) => role !== "activity").map(({ role }) => role);
    assert.deepEqual(roles, ["user", "assistant", "tool", "assistant"]);
  },

  async "a question that is answered with other arguments"({ agent }) {
    const one = agent();
    one.addMessage(user(SUM));
    finished(await run(one, { forwardedProps: ASK }), "interrupt");
    const [question] = one.pendingInterrupts;
    assert.equal(question.reason, "tool_call");
    const payload = { approved: true, editedArgs: { expression: "2 + 2" } };
    const resume = [{ interruptId: question.id, status: "resolved", payload }];
    const ran = await run(one, { resume });
    finished(ran, "success");
    const [result] = ran.of("TOOL_CALL_RESULT");
    assert.equal(result.toolCallId, question.toolCallId);
    assert.match(result.content, /4/);
    assert.doesNotMatch(result.content, /391/);
    assert.equal(one.pendingInterrupts.length, 0);
  },

  async "a question that is answered with no"({ agent }) {
    const one = agent();
    one.addMessage(user(SUM));
    finished(await run(one, { forwardedProps: ASK }), "interrupt");
    const [question] = one.pendingInterrupts;
    const resume = [{ interruptId: question.id, status: "resolved", payload: { approved: false } }];
    const ran = await run(one, { resume });
    finished(ran, "success");
    assert.match(ran.of("TOOL_CALL_RESULT")[0].content, /not allow/);
    // Once is all: the same question is not open any more.
    const late = await run(one, { resume: [{ ...resume[0], payload: { approved: true } }] });
    assert.deepEqual([late.last.type, late.last.code], ["RUN_ERROR", "conflict"]);
  },

  async "a tool that the client runs"({ agent }) {
    const one = agent();
    const tools = [
      { name: "get_location", description: "Asks the browser", parameters: { type: "object", properties: {} } },
    ];
    one.addMessage(user("[[call get_location {}]] where am I?"));
    const first = await run(one, { tools });
    finished(first, "success");
    const [call] = first.of("TOOL_CALL_START");
    assert.equal(first.of("TOOL_CALL_RESULT").length, 0);
    one.addMessage({ id: randomUUID(), role: "tool", toolCallId: call.toolCallId, content: "Bern" });
    const second = await run(one, { tools });
    finished(second, "success");
    assert.equal(one.messages.at(-1).role, "assistant");
  },

  async "a run that fails"({ agent }) {
    const one = agent();
    one.addMessage(user("[[400]] go"));
    const ran = await run(one);
    assert.equal(ran.last.type, "RUN_ERROR");
    assert.deepEqual(ran.failures, []);
    one.addMessage(user("hello"));
    finished(await run(one), "success");
  },

  async "a run that its client aborts"({ agent, kronos, headers }) {
    const one = agent();
    one.addMessage(user("[[tokens 20000]] go"));
    let id = null;
    let told = false;
    const ran = one.runAgent(
      {},
      {
        onRunStartedEvent: ({ event }) => void (id = event.metadata.kronos.runId),
        onTextMessageContentEvent: () => {
          if (!told) one.abortRun();
          told = true;
        },
      },
    );
    await ran.catch(() => null);
    assert.ok(told);
    await eventually("the run is stopped", async () => (await kronos.run(headers, id)).status === "cancelled");
  },

  async "a caller whose token is not good"({ Client, kronos }) {
    const one = new Client({ url: `${kronos.url}/api/v1/agent/ag-ui`, headers: { Authorization: "Bearer no" } });
    one.addMessage(user("hello"));
    await assert.rejects(one.runAgent({}), (error) => error.status === 401 || /401/.test(error.message));
  },
};

const copilot = {
  async "CopilotKit runs, connects and stops"({ kronos, headers }) {
    const open = async (threadId) => {
      const core = new CopilotKitCore({ runtimeUrl: `${kronos.url}/api/v1/agent/copilotkit`, headers });
      await eventually("CopilotKit is connected", () => core.runtimeConnectionStatus === "connected");
      const agent = core.getAgent("default");
      agent.threadId = threadId;
      return { core, agent };
    };
    const threadId = randomUUID();
    const one = await open(threadId);
    one.agent.addMessage(user("What is the capital of Japan?"));
    await one.core.runAgent({ agent: one.agent });
    assert.match(one.agent.messages.at(-1).content, /Tokyo/);

    // Another page sees the same thread.
    const other = await open(threadId);
    await other.core.connectAgent({ agent: other.agent });
    const texts = (agent) => agent.messages.map(({ role, content }) => [role, content]);
    assert.deepEqual(texts(other.agent), texts(one.agent));

    // A run that is stopped ends its stream.
    one.agent.addMessage(user("[[tokens 20000]] go"));
    let id = null;
    const { unsubscribe } = one.agent.subscribe({
      onRunStartedEvent: ({ event }) => void (id = event.metadata.kronos.runId),
    });
    const running = one.core.runAgent({ agent: one.agent });
    await eventually("the run writes", () => one.agent.messages.at(-1)?.role === "assistant" && id);
    one.core.stopAgent({ agent: one.agent });
    await running;
    unsubscribe();
    await eventually("the run is stopped", async () => (await kronos.run(headers, id)).status === "cancelled");
  },
};

async function main() {
  const kronos = await Kronos.start(process.argv[2]);
  let failed = 0;
  const check = async (name, test, context) => {
    try {
      await test(context);
      console.log(`ok: ${name}`);
    } catch (error) {
      failed += 1;
      console.error(`FAILED: ${name}\n`, error);
    }
  };
  const clients = { "@ag-ui/client 1.0.0": Agent, "@ag-ui/client 0.0.59": AgentBefore1 };
  for (const [index, [version, Client]] of Object.entries(clients).entries()) {
    const headers = await kronos.login(`user${index}`);
    const agent = () => new Client({ url: `${kronos.url}/api/v1/agent/ag-ui`, headers });
    for (const [name, test] of Object.entries(cases)) {
      await check(`${version}: ${name}`, test, { kronos, headers, agent, Client });
    }
  }
  const headers = await kronos.login("copilot");
  for (const [name, test] of Object.entries(copilot)) await check(name, test, { kronos, headers });
  for (const error of unhandled) console.error("an error that nobody handled:", error);
  await kronos.stop();
  process.exit(failed + unhandled.length > 0 ? 1 : 0);
}

await main();
