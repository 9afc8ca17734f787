"use strict";
// Its styles are made while it runs: they carry the nonce that the page's policy names.
(() => {
  const place = document.getElementById("redoc");
  const options = JSON.parse(place.dataset.options);
  Redoc.init(place.dataset.schema, { ...options, nonce: document.currentScript.nonce }, place);
})();
