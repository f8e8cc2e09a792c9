// Checks the dashboards without a Grafana: node check.mjs FOLDER_OF_DASHBOARDS
//
// 1. Under the types that Grafana publishes. Each file is written as a literal into a TypeScript file and must satisfy the
//    types of @grafana/schema (dashboard, fields, and the options of each panel type); its queries those of the Foundation SDK.
//    A literal may not have a field that its type does not have.
// 2. What types do not say: a schema version that Grafana reads, references that lead somewhere, queries that can be sent.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const folder = process.argv[2];
const problems = [];

// Panel types in use, each with the types of its options and of what it adds to a field.
const PANELS = {
  heatmap: ["HeatmapOptions", "HeatmapField"],
  stat: ["StatOptions", "Record<string, never>"],
  table: ["TableOptions", "TableField"],
  timeseries: ["TimeSeriesOptions", "TimeSeriesField"],
};
// Panels are migrated from the schema version of their dashboard up to that of the Grafana that opens it.
const SCHEMA_VERSIONS = { least: 36, most: 42 };

const HEAD = `import type { AnnotationQuery, Dashboard } from "@grafana/schema";
import type { Options as HeatmapOptions, FieldConfig as HeatmapField } from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as TableOptions, FieldConfig as TableField } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type { Options as TimeSeriesOptions, FieldConfig as TimeSeriesField } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { Dataquery } from "@grafana/grafana-foundation-sdk/prometheus";

// A type as JSON has it: an enum is its words or numbers.
type Json<T> = T extends string ? \`\${T}\`
  : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : T)
  : T extends boolean | null | undefined ? T
  : T extends (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T;
type Query = Omit<Json<Dataquery>, "_implementsDataqueryVariant">;
type Whole = Omit<Json<Dashboard>, "annotations">;
type Note = Json<Omit<AnnotationQuery, "target">> & { target?: Query };
`;

const literal = (value, type, indent = 1) => `(${JSON.stringify(value, null, indent)}) satisfies ${type};\n`;

function typed(board) {
  const { annotations, ...whole } = board;
  let text = HEAD + literal(whole, "Whole");
  for (const note of annotations.list) text += literal(note, "Note");
  for (const panel of panelsOf(board)) {
    const [options, field] = PANELS[panel.type] ?? ["never", "never"];
    text += `// ${panel.title}\n` + literal(panel.options, `Json<${options}>`);
    text += literal(panel.fieldConfig.defaults.custom ?? {}, `Json<${field}>`);
    for (const target of panel.targets) text += literal(target, "Query");
  }
  return text;
}

function panelsOf(board) {
  return board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]).filter((panel) => panel.type !== "row");
}

function loads(name, board) {
  const wrong = (what) => problems.push(`${name}: ${what}`);
  const { least, most } = SCHEMA_VERSIONS;
  if (!(board.schemaVersion >= least && board.schemaVersion <= most)) wrong(`schemaVersion ${board.schemaVersion}`);
  if (board.id !== null) wrong("an id of its own: it would replace another dashboard");
  if (!/^[a-zA-Z0-9_-]{1,40}$/.test(board.uid)) wrong(`uid ${board.uid}`);
  const variables = new Set(board.templating.list.map((variable) => variable.name));
  for (const [, used] of JSON.stringify(board).matchAll(/\$\{?([a-z]\w*)/g)) {
    if (!variables.has(used)) wrong(`variable ${used} is not defined`);
  }
  const source = JSON.stringify({ type: "prometheus", uid: "${datasource}" });
  for (const panel of panelsOf(board)) {
    const at = (what) => wrong(`${panel.title}: ${what}`);
    if (!(panel.type in PANELS)) at(`unknown panel type ${panel.type}`);
    if (JSON.stringify(panel.datasource) !== source) at("another datasource");
    if (panel.targets.length === 0) at("no query");
    const names = panel.targets.map((target) => target.refId);
    if (new Set(names).size !== names.length || names.some((name) => !name)) at(`refIds ${names}`);
    for (const target of panel.targets) {
      if (JSON.stringify(target.datasource) !== source) at("a query of another datasource");
      if (typeof target.expr !== "string" || target.expr === "") at("a query without an expression");
      if (target.range === target.instant) at("a query is of a range or of an instant");
      if ((target.format === "table") !== (panel.type === "table")) at(`format ${target.format}`);
      if ((target.format === "heatmap") !== (panel.type === "heatmap")) at(`format ${target.format}`);
    }
    const steps = panel.fieldConfig.defaults.thresholds.steps;
    if (steps[0].value !== null) at("the first threshold begins somewhere");
    const values = steps.slice(1).map((step) => step.value);
    if (values.some((value, n) => n > 0 && value <= values[n - 1])) at("thresholds are not in order");
  }
}

const generated = join(here, "generated");
rmSync(generated, { recursive: true, force: true });
mkdirSync(generated);
const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
for (const file of files) {
  const board = JSON.parse(readFileSync(join(folder, file), "utf8"));
  loads(file, board);
  writeFileSync(join(generated, file.replace(".json", ".ts")), typed(board));
}
// The check of the check: what Grafana does not know is refused.
const good = JSON.parse(readFileSync(join(folder, files[0]), "utf8"));
const panel = panelsOf(good)[0];
const bad = [
  literal({ ...good, annotations: undefined, titel: "x" }, "Whole", 0),
  literal({ ...panel.options, colour: 1 }, `Json<${PANELS[panel.type][0]}>`, 0),
  literal({ ...panel.targets[0], format: "chart" }, "Query", 0),
];
writeFileSync(join(generated, "refused.ts"), HEAD + bad.map((line) => `// @ts-expect-error\n${line}`).join(""));
const options = { strict: true, noEmit: true, module: "nodenext", skipLibCheck: true, types: [], target: "es2022" };
writeFileSync(join(generated, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["*.ts"] }));
try {
  const tsc = join(here, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "--project", generated], { encoding: "utf8" });
} catch (error) {
  problems.push(error.stdout || error.message);
}
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
console.log(`${files.length} dashboards satisfy Grafana's schema`);
