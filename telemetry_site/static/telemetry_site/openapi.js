"use strict";

const page = document.getElementById("page");

SwaggerUIBundle({
  domNode: page,
  url: page.dataset.document,
  deepLinking: true,
  displayRequestDuration: true,
  // By default it would send the document's address to validator.swagger.io.
  validatorUrl: null,
});
