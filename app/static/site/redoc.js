"use strict";
// ReDoc creates styles at run time. They must carry the nonce that the page's policy allows.
(() => {
  const place = document.getElementById("redoc");
  const options = JSON.parse(place.dataset.options);
  Redoc.init(place.dataset.schema, { ...options, nonce: document.currentScript.nonce }, place);
})();
