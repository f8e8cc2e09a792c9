// Starts ReDoc. A file of its own: the page's policy allows no script within it.
"use strict";

const system = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif";
const code = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";

Redoc.init(
  "openapi.json",
  {
    // The search runs in a worker made of text, which the page's policy does not allow.
    disableSearch: true,
    hideDownloadButton: false,
    jsonSampleExpandLevel: 3,
    theme: {
      typography: {
        fontFamily: system,
        headings: { fontFamily: system },
        code: { fontFamily: code },
      },
    },
  },
  document.getElementById("redoc"),
);
