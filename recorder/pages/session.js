"use strict";
(() => {
  const form = document.querySelector("form.find");
  const all = [...document.querySelectorAll(".s, .e")];
  const texts = all.map((one) => one.textContent.toLowerCase());
  const shown = form.querySelector("output");
  const apply = () => {
    const words = form.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = form.kind.value, table = form.table.value, rows = Number(form.rows.value) || 0;
    let count = 0;
    all.forEach((one, at) => {
      const said = one.classList.contains("s");
      const fits = words.every((word) => texts[at].includes(word))
        && (!kind || one.classList.contains(kind))
        && (!table || (said && ` ${one.dataset.tables} `.includes(` ${table} `)))
        && (!rows || (said && Number(one.dataset.rows) >= rows));
      one.hidden = !fits;
      if (fits && said) count += 1;
    });
    shown.value = `${count.toLocaleString("en")} of ${form.dataset.count} statements`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== form.q) { event.preventDefault(); form.q.focus(); }
    if (event.key === "Escape") { form.reset(); apply(); }
  });
  apply();
})();
