"use strict";

/* Tables may have tens of thousands of rows: their text is read once, and rows are filtered when the
   reader pauses. */
const textOf = new WeakMap();
let pause;

function filterRows(box) {
  clearTimeout(pause);
  const label = box.closest("label"),
    table = label.nextElementSibling.querySelector("table");
  if (table.tBodies[0].rows.length < 2000) filterTable(box, label, table);
  else pause = setTimeout(() => filterTable(box, label, table), 200);
}

function filterTable(box, label, table) {
  const wanted = box.value.trim().toLowerCase(),
    rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    if (!textOf.has(row)) textOf.set(row, row.textContent.toLowerCase());
    row.hidden = !textOf.get(row).includes(wanted);
  }
  const left = rows.filter((row) => !row.hidden);
  label.querySelector(".count").textContent = wanted
    ? `${left.length} of ${rows.length} rows`
    : `${rows.length} rows`;
  const stop = table.querySelector(".pick[tabindex='0']"),
    first = table.querySelector("tbody tr:not([hidden]) .pick");
  if (stop && stop.closest("tr").hidden && first) setTabStop(first);
  if (wanted && table.matches(".picks")) {
    const same =
      left.find((row) => row.cells[0].textContent.toLowerCase() === wanted) ||
      (left.length === 1 && left[0]);
    if (same) choosers.get(table.closest("section"))(same.cells[0].textContent);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    /* The button in the head passes its clicks, and the keys Enter and Space, on to the head. */
    head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = head.classList.contains("t");
      const keyed = [...table.tBodies[0].rows].map((row) => {
        const value = row.cells[column].textContent.trim();
        return { row, value, number: text && !/^-?[\d.]/.test(value) ? NaN : parseFloat(value) };
      });
      keyed.sort((a, b) => {
        if (isNaN(a.number) !== isNaN(b.number)) return isNaN(a.number) ? 1 : -1;
        const order = isNaN(a.number) ? a.value.localeCompare(b.value) : a.number - b.number;
        return up ? order : -order;
      });
      table.tBodies[0].append(...keyed.map((one) => one.row));
    });
  });
}

/* The contents bar marks the section that is being read, and keeps the mark in sight. */
const places = [...document.querySelectorAll("nav a")].map((link) => [
  link,
  document.querySelector(link.getAttribute("href")),
]);

function markPlace() {
  const line = innerHeight / 4;
  const passed = places.filter(([, place]) => place.getBoundingClientRect().top < line);
  // At the end of the page the last sections may be too short to reach the line.
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const here = atEnd && scrollY ? places.at(-1)[0] : (passed.at(-1) || places[0])[0];
  if (here.classList.contains("here")) return;
  for (const [link] of places) {
    link.classList.toggle("here", link === here);
    if (link === here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const bar = here.parentElement;
  bar.scrollTop = here.offsetTop - bar.clientHeight / 2;
  bar.scrollLeft = here.offsetLeft - bar.clientWidth / 2;
}

addEventListener("scroll", markPlace, { passive: true });
addEventListener("resize", markPlace);
markPlace();

/* The scatter plot of a chosen gene. All text goes through textContent, so that no name can become
   markup. */
const choosers = new Map();

function unpack([low, high, packed]) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)),
    view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 2 }, (_, index) => {
    const step = view.getUint16(2 * index, true);
    return step === 65535 ? NaN : low + ((high - low) * step) / 65534;
  });
}

function ticks(low, high) {
  const rough = (high - low) / 7,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough),
    found = [];
  for (let index = Math.ceil(low / step); index * step <= high + 1e-9; index++)
    found.push(index * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return found.map((value) => [value, Math.abs(value) < step / 1e6 ? "0" : value.toFixed(digits)]);
}

function make(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawScatter(svg, gene, data) {
  const x = unpack(gene.x),
    y = unpack(gene.y),
    box = { left: 62, right: 428, top: 34, bottom: 342 };
  const range = (values) => {
    const known = values.filter((value) => !isNaN(value)),
      low = Math.min(...known),
      high = Math.max(...known);
    const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    return [low - room, high + room];
  };
  const [x0, x1] = range(x),
    [y0, y1] = range(y);
  const across = (value) => box.left + ((value - x0) / (x1 - x0)) * (box.right - box.left);
  const up = (value) => box.bottom - ((value - y0) / (y1 - y0)) * (box.bottom - box.top);
  const font = { "font-family": "sans-serif", fill: "#1d2327" },
    parts = [];
  parts.push(
    make(
      "text",
      {
        ...font,
        x: (box.left + box.right) / 2,
        y: 20,
        "font-size": 15,
        "font-weight": 600,
        "text-anchor": "middle",
      },
      gene.gene,
    ),
  );
  for (const [value, label] of ticks(x0, x1)) {
    parts.push(
      make("line", {
        x1: across(value),
        x2: across(value),
        y1: box.top,
        y2: box.bottom,
        stroke: "#e6eaed",
      }),
    );
    parts.push(
      make(
        "text",
        { ...font, x: across(value), y: box.bottom + 16, "font-size": 11, "text-anchor": "middle" },
        label,
      ),
    );
  }
  for (const [value, label] of ticks(y0, y1)) {
    parts.push(
      make("line", {
        x1: box.left,
        x2: box.right,
        y1: up(value),
        y2: up(value),
        stroke: "#e6eaed",
      }),
    );
    parts.push(
      make(
        "text",
        { ...font, x: box.left - 6, y: up(value) + 4, "font-size": 11, "text-anchor": "end" },
        label,
      ),
    );
  }
  const from = Math.max(x0, y0),
    to = Math.min(x1, y1);
  if (from < to) {
    parts.push(
      make("line", {
        x1: across(from),
        x2: across(to),
        y1: up(from),
        y2: up(to),
        stroke: "#7a7a7a",
        "stroke-dasharray": "5 4",
        class: "equal",
      }),
    );
  }
  parts.push(
    make("path", {
      d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`,
      fill: "none",
      stroke: "#1d2327",
    }),
  );
  x.forEach((value, index) => {
    if (isNaN(value) || isNaN(y[index])) return;
    const dot = make("circle", {
      cx: across(value).toFixed(1),
      cy: up(y[index]).toFixed(1),
      r: x.length > 400 ? 3 : 4,
      fill: "#1b5e9e",
      "fill-opacity": 0.55,
    });
    dot.append(
      make(
        "title",
        {},
        `${data.patients[index]}: measured ${value.toFixed(2)}, predicted ${y[index].toFixed(2)}`,
      ),
    );
    parts.push(dot);
  });
  parts.push(
    make(
      "text",
      {
        ...font,
        x: (box.left + box.right) / 2,
        y: box.bottom + 36,
        "font-size": 12,
        "text-anchor": "middle",
      },
      "measured expression of each patient",
    ),
  );
  parts.push(
    make(
      "text",
      {
        ...font,
        x: (box.left + box.right) / 2,
        y: box.bottom + 51,
        "font-size": 10.5,
        "text-anchor": "middle",
      },
      `(${data.unit})`,
    ),
  );
  parts.push(
    make(
      "text",
      {
        ...font,
        transform: `translate(15 ${(box.top + box.bottom) / 2}) rotate(-90)`,
        "font-size": 12,
        "text-anchor": "middle",
      },
      "predicted, out of fold (same unit)",
    ),
  );
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", `Measured against predicted expression of ${gene.gene}`);
  return x.filter((value, index) => !isNaN(value) && !isNaN(y[index])).length;
}

function tellFacts(list, gene, data, patients) {
  const number = (value) =>
    value === null
      ? "NA"
      : value !== 0 && Math.abs(value) < 0.001
        ? value.toExponential(1)
        : value.toFixed(Math.abs(value) < 0.01 ? 3 : 2);
  const facts = [
    ["gene", gene.gene],
    ["patients", String(patients)],
  ];
  if (gene.r !== null) {
    // Shares are given as a range: with few patients, the square of r itself would promise too much.
    const percent = (r) => Math.round(100 * Math.max(0, r) ** 2);
    const share =
      gene.low !== null && gene.high > 0
        ? `; within a fold, a line through the predictions explains ${percent(gene.low)} to` +
          ` ${percent(gene.high)} % of the differences between patients`
        : "";
    facts.push([
      "r within test folds, combined (95 % interval)",
      `${number(gene.r)} (${number(gene.low)} to ${number(gene.high)})${share}`,
    ]);
  } else {
    facts.push(["r within test folds", "NA: folds of fewer than 4 patients, or a constant gene"]);
  }
  facts.push(["r pooled over all folds, as the figure looks (biased; levels differ between folds)", number(gene.pooled)]);
  facts.push(["q (false discovery rate over genes)", number(gene.q)]);
  facts.push([
    "predictable: q below 0.05, and r above that of every baseline",
    gene.predictable ? "yes" : "no",
  ]);
  if (gene.half !== null) {
    const held =
      gene.inside === null ? "" : `; it held ${Math.round(100 * gene.inside)} % of patients`;
    facts.push([
      `interval that should hold ${Math.round(100 * data.stated)} % of patients`,
      `prediction ± ${number(gene.half)}${held}`,
    ]);
  }
  facts.push([
    "dashed line, where it can be seen",
    "prediction and measurement are equal; predictions vary less, since what the model cannot" +
      " see pulls them to the mean",
  ]);
  list.replaceChildren(
    ...facts.flatMap(([term, said]) =>
      ["dt", "dd"].map((name, index) => {
        const element = document.createElement(name);
        element.textContent = [term, said][index];
        return element;
      }),
    ),
  );
}

/* The names of genes that can be drawn become buttons. A table may have thousands of them, so that the
   key Tab stops at one only, and the arrow keys lead to the others. */
function addPicks(table, byName) {
  for (const row of table.tBodies[0].rows) {
    const cell = row.cells[0],
      button = document.createElement("button");
    if (!byName.has(cell.textContent.trim().toLowerCase())) continue;
    Object.assign(button, { type: "button", className: "pick", tabIndex: -1 });
    button.setAttribute("aria-pressed", "false");
    button.append(...cell.childNodes);
    cell.append(button);
  }
  const first = table.querySelector(".pick");
  if (first) first.tabIndex = 0;
}

function setTabStop(button) {
  const before = button.closest("tbody").querySelector(".pick[tabindex='0']");
  if (before) before.tabIndex = -1;
  button.tabIndex = 0;
}

function moveInPicks(event) {
  const button = event.target.closest(".pick");
  if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
  const buttons = [...button.closest("tbody").querySelectorAll("tr:not([hidden]) .pick")],
    here = buttons.indexOf(button);
  const places = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
  const next = buttons[places[event.key]];
  if (!next) return;
  event.preventDefault();
  setTabStop(next);
  next.focus();
}

function saveAs(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const chooser of document.querySelectorAll(".chooser")) {
  const data = JSON.parse(chooser.querySelector("script.scatter").textContent),
    svg = chooser.querySelector("svg");
  const byName = new Map(data.genes.map((gene) => [gene.gene.toLowerCase(), gene])),
    section = chooser.closest("section");
  const box = chooser.querySelector("input"),
    warn = chooser.querySelector(".warn");
  let shown = null;
  const choose = (name) => {
    const gene = byName.get(name.trim().toLowerCase());
    warn.textContent = gene || !name.trim() ? "" : `${name.trim()}: no such gene on this page`;
    if (!gene) return false;
    shown = gene;
    box.value = gene.gene;
    tellFacts(chooser.querySelector(".facts"), gene, data, drawScatter(svg, gene, data));
    for (const row of section.querySelectorAll(".picks tbody tr")) {
      const chosen = row.cells[0].textContent === gene.gene,
        button = row.querySelector(".pick");
      row.classList.toggle("chosen", chosen);
      if (button) button.setAttribute("aria-pressed", chosen);
      if (chosen && button) setTabStop(button);
    }
    return true;
  };
  chooser.querySelector("datalist").append(
    ...data.genes.map((gene) => {
      const option = document.createElement("option");
      option.value = gene.gene;
      return option;
    }),
  );
  box.addEventListener("focus", () => box.select());
  box.addEventListener("change", () => choose(box.value));
  box.addEventListener("input", () => {
    if (byName.has(box.value.trim().toLowerCase())) choose(box.value);
  });
  for (const table of section.querySelectorAll(".picks")) {
    addPicks(table, byName);
    table.tBodies[0].addEventListener("click", (event) => {
      const button = event.target.closest(".pick");
      if (!button) return;
      choose(button.textContent);
      chooser.scrollIntoView({ block: "nearest" });
    });
    table.tBodies[0].addEventListener("keydown", moveInPicks);
  }
  chooser
    .querySelector("button.svg")
    .addEventListener("click", () =>
      saveAs(`${shown.gene}.svg`, "image/svg+xml", new XMLSerializer().serializeToString(svg)),
    );
  chooser.querySelector("button.csv").addEventListener("click", () => {
    const x = unpack(shown.x),
      y = unpack(shown.y),
      quoted = (text) => `"${String(text).replace(/"/g, '""')}"`;
    const lines = data.patients.map((patient, index) =>
      [
        quoted(patient),
        quoted(shown.gene),
        ...[x, y].map((values) => (isNaN(values[index]) ? "" : values[index].toPrecision(6))),
      ].join(","),
    );
    saveAs(
      `${shown.gene}.csv`,
      "text/csv",
      ["patient,gene,measured,predicted", ...lines, ""].join("\n"),
    );
  });
  choosers.set(section, choose);
  choose(data.first);
}

addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((one) => {
    one.dataset.shut = one.open ? "" : "1";
    one.open = true;
  }),
);
addEventListener("afterprint", () =>
  document.querySelectorAll("details").forEach((one) => {
    if (one.dataset.shut) one.open = false;
  }),
);
