// Starts Swagger UI. A file of its own: the page's policy allows no script within it.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  // Nothing is sent to anybody else.
  validatorUrl: null,
});
