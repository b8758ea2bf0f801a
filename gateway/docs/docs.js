// Options of swagger-ui, which shows /openapi.json and tries its methods out.
SwaggerUIBundle({
  url: "/openapi.json",
  domNode: document.querySelector("#docs"),
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null, // or it sends the document to somebody else's server
});
