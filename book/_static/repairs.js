// Repairs for keyboards, screen readers and phones, of what the theme and pandas leave undone.
// Every part stands alone; without this script a page is still whole.
"use strict";
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  function nameControls() {
    for (const summary of all("summary")) {
      if (summary.textContent.trim()) summary.removeAttribute("aria-label");
      else {
        const link = summary.closest("li")?.querySelector("a");
        summary.setAttribute("aria-label", `Pages under ${link ? link.textContent.trim() : "this one"}`);
      }
    }
    for (const toggle of all(".toctree-toggle")) toggle.removeAttribute("role");
    for (const button of all(".search-button-field")) {
      button.removeAttribute("aria-label");
      button.removeAttribute("title");
      delete button.dataset.bsToggle; // a tooltip would bring both back
    }
    all("#pst-primary-sidebar-checkbox").forEach((box) => box.setAttribute("aria-label", "Show the contents"));
    all("#pst-secondary-sidebar-checkbox").forEach((box) => box.setAttribute("aria-label", "Show what is on this page"));
    all("[role=doc-biblioentry], .citation-list").forEach((entry) => entry.removeAttribute("role"));
  }

  // The rows of a table's part as a grid of cells: spans are written out, so that every row is whole.
  function grid(part) {
    const rows = all("tr", part);
    const cells = rows.map(() => []);
    rows.forEach((row, y) => {
      let x = 0;
      for (const cell of [...row.cells]) {
        while (cells[y][x]) x += 1;
        for (let down = 0; down < cell.rowSpan; down += 1) {
          for (let right = 0; right < cell.colSpan; right += 1) {
            if (cells[y + down]) cells[y + down][x + right] = cell;
          }
        }
        x += cell.colSpan;
      }
    });
    return cells;
  }

  // A column's name in a program, as words.
  const spoken = (name) => name.replaceAll("_", " ");

  function readTable(table) {
    if (!table.tHead || !table.tBodies.length) return;
    // pandas gives the names of the index a row of their own: one row of names is enough.
    const head = grid(table.tHead);
    const width = Math.max(...head.map((row) => row.length));
    const words = [...Array(width).keys()].map((x) =>
      [...new Set(head.map((row) => row[x]?.textContent.trim()).filter(Boolean))].join(", "))
      .map((name) => (table.matches(".dataframe") ? spoken(name) : name));
    const body = grid(table.tBodies[0]);
    // pandas numbers the rows: a column without a name that only counts from zero tells nothing.
    const counts = table.matches(".dataframe") && !words[0] && body.every((row, y) =>
      row[0]?.tagName === "TH" && row[0].textContent.trim() === String(y));
    if (counts) table.classList.add("numbered");
    body.forEach((row, y) => {
      const tr = table.tBodies[0].rows[y];
      let before = null;
      row.forEach((cell, x) => {
        if (cell.closest("tr") === tr) {
          cell.dataset.name = words[x] || "";
          before = cell;
        } else { // spanned from a row above
          const again = cell.cloneNode(true);
          again.removeAttribute("rowspan");
          again.classList.add("again");
          again.dataset.name = words[x] || "";
          if (before) before.after(again);
          else tr.prepend(again);
          before = again;
        }
      });
    });
    all("tbody [rowspan]", table).forEach((cell) => cell.removeAttribute("rowspan"));
    for (const cell of all("thead th", table)) {
      if (!cell.textContent.trim()) cell.setAttribute("aria-hidden", "true"); // it heads nothing
      else if (!cell.children.length) {
        if (table.matches(".dataframe")) cell.textContent = spoken(cell.textContent);
        cell.innerHTML = cell.innerHTML.replace(/[+/]/g, "$&<wbr>");
      }
    }
    table.dataset.read = "yes";
  }

  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell", TH: "rowheader" };

  const MANY = 9; // columns from which a row reads better along a line than as a card

  // A table that does not fit is first set tighter, then turned on its side: a card for each row. One
  // of many columns scrolls instead, and its first column stays.
  function fitTables() {
    for (const table of all(".bd-article table[data-read]")) {
      const frame = table.closest(".cell_output, .pst-scrollable-table-container, section");
      if (!frame || !frame.clientWidth) continue; // folded away
      table.classList.remove("tight", "cards", "wide");
      const fits = () => table.scrollWidth <= frame.clientWidth && table.offsetWidth <= frame.clientWidth + 1;
      if (!fits()) table.classList.add("tight");
      if (!fits()) table.classList.add(table.tBodies[0].rows[0]?.cells.length >= MANY ? "wide" : "cards");
      const cards = table.matches(".cards"); // blocks lose the roles of a table
      for (const part of [table, ...all("thead, tbody, tr, td, tbody th", table)]) {
        if (cards) part.setAttribute("role", roles[part.tagName]);
        else part.removeAttribute("role");
      }
      all("thead th", table).forEach((cell) => (cards ? cell.setAttribute("role", "columnheader") : cell.removeAttribute("role")));
    }
  }

  // What scrolls sideways can be reached and scrolled by the keyboard.
  function reachScrolling() {
    const boxes = ".bd-article pre, .bd-article .cell_output, .bd-article .output, .bd-article .pst-scrollable-table-container, "
      + ".bd-article div.math, .bd-article mjx-container, .bd-sidebar-primary, .bd-sidebar-secondary";
    for (const box of all(boxes)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      const way = getComputedStyle(box);
      if (scrolls && /auto|scroll/.test(way.overflowX + way.overflowY)) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
      const drawn = scrolls && box.matches(":has(img)"); // that a figure goes on is not seen by itself
      box.classList.toggle("goes-on", drawn && box.scrollWidth > box.clientWidth + 1);
    }
  }

  function fit() {
    fitTables();
    reachScrolling();
  }

  let waiting = 0;
  function fitSoon() {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(fit);
  }

  document.addEventListener("DOMContentLoaded", () => {
    nameControls();
    all(".bd-article table").forEach(readTable);
    fit();
    addEventListener("resize", fitSoon);
    addEventListener("load", fitSoon); // fonts and formulae have come
    document.addEventListener("toggle", fitSoon, true); // something was unfolded
    document.addEventListener("click", fitSoon);
  });
})();
