// A real `kronos serve` with simulators, and what a test asks of it over REST.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, openSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const START_LIMIT_MS = 60_000;
const LIMIT_MS = 20_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks again and again until there is an answer. */
export async function eventually(what, ask, limit = LIMIT_MS) {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within ${limit} ms: ${what}`);
    await sleep(50);
  }
}

function freePort() {
  return new Promise((done, fail) => {
    const probe = createServer();
    probe.once("error", fail);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

export class Kronos {
  static async start(program) {
    const folder = mkdtempSync(join(tmpdir(), "kronos-agui-"));
    const port = await freePort();
    const log = join(folder, "log");
    const output = openSync(log, "w");
    const child = spawn(program, ["serve"], {
      cwd: folder,
      stdio: ["ignore", output, output],
      env: {
        PATH: process.env.PATH,
        PORT: String(port),
        DATABASE_URL: `sled://${folder}/data`,
        AUTH_MODE: "required",
        SECRET_KEY: "0123456789abcdef0123456789abcdef",
        GEMINI_SIM_TOKENS_PER_SECOND: "200",
        AG_UI_DISCONNECT_GRACE: "200ms",
        LOG_LEVEL: "warn",
      },
    });
    const kronos = new Kronos(child, folder, log, `http://127.0.0.1:${port}`);
    await eventually(
      "the server is ready",
      async () => {
        if (child.exitCode !== null) throw new Error(`the server ended:\n${readFileSync(log, "utf8")}`);
        const reply = await fetch(`${kronos.url}/health/ready`).catch(() => null);
        return reply?.ok;
      },
      START_LIMIT_MS,
    );
    return kronos;
  }

  constructor(child, folder, log, url) {
    Object.assign(this, { child, folder, log, url });
  }

  /** Signs a user up and in: the headers of that user. */
  async login(username) {
    const post = async (path, body) => {
      const reply = await fetch(`${this.url}/api/v1/auth/${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      if (!reply.ok) throw new Error(`${path}: ${reply.status} ${await reply.text()}`);
      return reply.json();
    };
    const password = "correct horse";
    await post("signup", { username, email: `${username}@example.com`, password });
    const { access_token: token } = await post("login", { username, password });
    return { Authorization: `Bearer ${token}` };
  }

  /** How a run stands. */
  async run(headers, id) {
    const reply = await fetch(`${this.url}/api/v1/agent/runs/${id}`, { headers });
    if (!reply.ok) throw new Error(`run ${id}: ${reply.status} ${await reply.text()}`);
    return reply.json();
  }

  async stop() {
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGTERM");
    const code = await Promise.race([ended, sleep(LIMIT_MS).then(() => "not at all")]);
    const panics = readFileSync(this.log, "utf8")
      .split("\n")
      .filter((line) => line.includes("panicked"));
    rmSync(this.folder, { recursive: true, force: true });
    if (code !== 0) throw new Error(`the server ended with ${code}`);
    if (panics.length > 0) throw new Error(panics.join("\n"));
  }
}
