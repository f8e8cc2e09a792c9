// Checks a running Composio simulator with Composio's own JavaScript SDK.
//
// Usage: npm install && node check_composio_js_sdk.mjs http://127.0.0.1:8091
// Prints a line per check and ends with "N passed, M failed"; the exit code is 1 when one failed.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Composio } from "@composio/core";

const base = process.argv[2].replace(/\/$/, "");
const version = "20261015_00";
const client = (apiKey = "ak_test") =>
  new Composio({ apiKey, baseURL: base, allowTracking: false, disableVersionCheck: true, toolkitVersions: version });
const c = client();

async function control(path, body) {
  const answer = await fetch(base + path, { method: "POST", body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

const connected = async (user_id, toolkit) => (await control("/sim/accounts", { user_id, toolkit })).id;

async function fails(promise) {
  const error = await promise.then(() => undefined, (error) => error);
  assert.ok(error instanceof Error, "no error");
  return error;
}

/** The HTTP status somewhere in the causes of an error. */
function status(error) {
  for (let cause = error; cause; cause = cause.cause) if (cause.status) return cause.status;
  return undefined;
}

const checks = {
  async "lists toolkits"() {
    const all = await c.toolkits.get({ limit: 100 });
    const slugs = all.map((toolkit) => toolkit.slug);
    for (const slug of ["github", "gmail", "slack", "googlecalendar", "notion"]) assert.ok(slugs.includes(slug), slug);
    assert.equal((await c.toolkits.get("github")).meta.availableVersions[0], version);
    assert.ok((await c.toolkits.listCategories({})).items.length > 2);
  },
  async "gets tools"() {
    const tools = await c.tools.get("anna", { toolkits: ["github"], limit: 100 });
    const names = tools.map((tool) => tool.function.name);
    assert.ok(names.includes("GITHUB_CREATE_ISSUE"));
    const important = await c.tools.get("anna", { toolkits: ["github"] });
    assert.ok(important.length < tools.length, "without a limit only the important ones");
    const found = await c.tools.get("anna", { search: "send email" });
    assert.equal(found[0].function.name, "GMAIL_SEND_EMAIL");
    const bySlug = await c.tools.get("anna", { tools: ["GITHUB_CREATE_ISSUE", "SLACK_SEND_MESSAGE"] });
    assert.equal(bySlug.length, 2);
    assert.ok((await c.tools.getToolsEnum()).includes("NOTION_CREATE_NOTION_PAGE"));
  },
  async "keeps auth configs"() {
    const made = await c.authConfigs.create("github", { type: "use_composio_managed_auth", name: "Checked" });
    assert.equal((await c.authConfigs.get(made.id)).name, "Checked");
    const credentials = { client_id: "cid", client_secret: "secret-value" };
    const own = await c.authConfigs.create("github", { type: "use_custom_auth", authScheme: "OAUTH2", credentials, name: "Own" });
    await c.authConfigs.update(own.id, { type: "custom", credentials: { client_secret: "other-value" } });
    const read = await c.authConfigs.get(own.id);
    assert.deepEqual([read.credentials.client_id, read.credentials.client_secret], ["cid", "othe..."]);
    await c.authConfigs.disable(made.id);
    assert.equal((await c.authConfigs.get(made.id)).status, "DISABLED");
    await c.authConfigs.enable(made.id);
    const listed = await c.authConfigs.list({ toolkit: "github", limit: 100 });
    assert.ok(listed.items.some((item) => item.id === made.id));
    for (const { id } of [made, own]) await c.authConfigs.delete(id);
    assert.equal(status(await fails(c.authConfigs.get(made.id))), 404);
  },
  async "connects by a link"() {
    const config = await c.authConfigs.create("slack", { type: "use_composio_managed_auth" });
    const callbackUrl = "https://kronos.example/back?x=1";
    const request = await c.connectedAccounts.link("lena-js", config.id, { callbackUrl });
    const body = new URLSearchParams({ decision: "approve" });
    const answer = await fetch(request.redirectUrl, { method: "POST", body, redirect: "manual" });
    const target = new URL(answer.headers.get("location"));
    assert.equal(target.searchParams.get("connected_account_id"), request.id);
    assert.deepEqual([target.searchParams.get("status"), target.searchParams.get("x")], ["success", "1"]);
    assert.equal((await request.waitForConnection(10_000)).status, "ACTIVE");
    await fails(c.connectedAccounts.link("lena-js", config.id));
    const listed = await c.connectedAccounts.list({ userIds: ["lena-js"], statuses: ["ACTIVE"] });
    assert.deepEqual(listed.items.map((item) => item.id), [request.id]);
  },
  async "waits until somebody approves"() {
    const config = await c.authConfigs.create("notion", { type: "use_composio_managed_auth" });
    const request = await c.connectedAccounts.link("mia-js", config.id);
    setTimeout(() => control(`/sim/connections/${request.id}`, { status: "ACTIVE" }), 1500);
    assert.equal((await request.waitForConnection(20_000)).status, "ACTIVE");
    const denied = await c.connectedAccounts.link("mia-js", config.id, { allowMultiple: true });
    await control(`/sim/connections/${denied.id}`, { status: "FAILED" });
    await fails(denied.waitForConnection(10_000));
  },
  async "is told that initiate is retired"() {
    const config = await c.authConfigs.create("gmail", { type: "use_composio_managed_auth" });
    assert.match(String(await fails(c.connectedAccounts.initiate("nora-js", config.id))), /link/);
  },
  async "manages accounts"() {
    const account = await connected("olga-js", "github");
    await c.connectedAccounts.disable(account);
    assert.equal((await c.connectedAccounts.get(account)).status, "INACTIVE");
    await c.connectedAccounts.enable(account);
    assert.equal((await c.connectedAccounts.get(account)).status, "ACTIVE");
    await c.connectedAccounts.delete(account);
    assert.equal(status(await fails(c.connectedAccounts.get(account))), 404);
  },
  async "executes tools"() {
    const connectedAccountId = await connected("petra-js", "github");
    const place = { owner: "octocat", repo: "checked-js" };
    const run = (slug, args) => c.tools.execute(slug, { userId: "petra-js", connectedAccountId, version, arguments: args });
    const made = await run("GITHUB_CREATE_ISSUE", { ...place, title: "From JavaScript" });
    assert.deepEqual([made.successful, made.error], [true, null]);
    assert.match(made.logId, /^log_/);
    const listed = await run("GITHUB_LIST_REPOSITORY_ISSUES", place);
    assert.deepEqual(listed.data.issues.map((issue) => issue.title), ["From JavaScript"]);
    const wrong = await run("GITHUB_CREATE_ISSUE", { owner: "octocat" });
    assert.equal(wrong.successful, false);
    assert.match(wrong.error, /`title`/);
    const proxied = await c.tools.proxyExecute({ endpoint: "/user", method: "GET", connectedAccountId });
    assert.equal(proxied.data.login, "octocat");
  },
  async "raises errors"() {
    await connected("quinn-js", "github");
    const args = { owner: "octocat", repo: "checked-js", title: "x" };
    const run = (more) => c.tools.execute("GITHUB_CREATE_ISSUE", { version, arguments: args, ...more });
    const other = await connected("rosa-js", "github");
    assert.equal(status(await fails(run({ userId: "quinn-js", connectedAccountId: other }))), 400);
    assert.equal(status(await fails(run({ userId: "nobody-js" }))), 404);
    for (const fault of ["429", "503"]) {
      await control("/sim/script", { tool: "GITHUB_CREATE_ISSUE", fault });
      assert.equal(status(await fails(run({ userId: "quinn-js" }))), Number(fault));
    }
    await control("/sim/script", { tool: "GITHUB_CREATE_ISSUE", fault: "cut-after-effect" });
    await fails(run({ userId: "quinn-js" }));
    assert.equal(status(await fails(client("bad-key").toolkits.get({}))), 401);
    await control("/sim/script", { path: "/toolkits", fault: "503", times: 2 });
    assert.ok((await c.toolkits.get({})).length > 0, "reading is tried again");
  },
  async "keeps triggers"() {
    await connected("sara-js", "github");
    assert.ok((await c.triggers.listEnum()).includes("GITHUB_COMMIT_EVENT"));
    const triggerConfig = { owner: "o", repo: "r" };
    const { triggerId } = await c.triggers.create("sara-js", "GITHUB_COMMIT_EVENT", { triggerConfig });
    const active = await c.triggers.listActive({ triggerIds: [triggerId] });
    assert.deepEqual(active.items.map((item) => item.id), [triggerId]);
    await c.triggers.disable(triggerId);
    await c.triggers.enable(triggerId);
    await c.triggers.delete(triggerId);
  },
  async "verifies webhooks"() {
    const got = [];
    const server = createServer(async (request, response) => {
      let payload = "";
      for await (const chunk of request) payload += chunk;
      got.push({ headers: request.headers, payload });
      response.end();
    });
    await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
    const webhookUrl = `http://127.0.0.1:${server.address().port}/hook`;
    const { secret } = await c.triggers.setWebhookSubscription({ webhookUrl });
    for (const order of [{}, { forged: true }, { stale: true }]) await control("/sim/webhooks", order);
    server.close();
    const verify = ({ headers, payload }) =>
      c.triggers.verifyWebhook({
        id: headers["webhook-id"],
        payload,
        secret,
        signature: headers["webhook-signature"],
        timestamp: headers["webhook-timestamp"],
      });
    assert.equal((await verify(got[0])).version, "V3");
    for (const bad of got.slice(1)) await fails(verify(bad));
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
process.exit(failed ? 1 : 0);
