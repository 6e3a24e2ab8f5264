"use strict";
// What pages need beside htmx: files that are dropped, and texts that are copied.
(() => {
  if (window.matchMedia("(max-width: 959px)").matches) {
    document.querySelectorAll("details[data-close-when-narrow]").forEach((one) => { one.open = false; });
  }
  document.addEventListener("dragover", (event) => {
    const place = event.target.closest(".drop");
    if (!place) return;
    event.preventDefault();
    place.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    const place = event.target.closest(".drop");
    if (place) place.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    const place = event.target.closest(".drop");
    if (!place) return;
    event.preventDefault();
    place.classList.remove("over");
    const input = place.querySelector("input[type=file]");
    input.files = event.dataTransfer.files;
    input.form.requestSubmit();
  });
  document.addEventListener("input", (event) => {
    const slider = event.target.closest("input[data-slides]");
    if (!slider) return;
    // its own change event, when it is let go, tells the form
    document.getElementById(slider.dataset.slides).value = Number((10 ** Number(slider.value)).toPrecision(3));
  });
  document.addEventListener("change", (event) => {
    const slider = event.target.id && document.querySelector(`input[data-slides="${CSS.escape(event.target.id)}"]`);
    if (slider && Number(event.target.value) > 0) slider.value = Math.log10(Number(event.target.value));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(() => { button.textContent = "copied"; });
  });
})();
