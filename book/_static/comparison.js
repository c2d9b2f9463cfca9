// Good, random and bad subnetworks by task, method and phase. Data: lotterylib.report.pictures.comparison.
"use strict";
(window.pictures ||= {}).comparison = (frame, data) => {
  const { make, redrawn } = acting;
  const { tasks } = data;
  const columns = [["name", "Subnetwork"], ["mean", "Mean"], ["interval", "95% interval"], ["runs", "Each seed"],
    ["way", "Way to the full model"], ["shared", "Shared with good"], ["paper", "Paper ± sd (its way)"]];
  const chosen = { task: 0, method: tasks[0].settings[0].method, phase: tasks[0].settings[0].phase };

  function switches(label, key) {
    const names = [...new Set(tasks[0].settings.map((setting) => setting[key]))];
    return make("fieldset", {}, make("legend", {}, label), ...names.map((name) => {
      const button = make("input", { type: "radio", name: `comparison-${key}`, value: name });
      button.checked = name === chosen[key];
      button.addEventListener("change", () => { chosen[key] = name; draw(); });
      return make("label", {}, button, ` ${name}`);
    }));
  }

  const list = make("select", {}, ...tasks.map((task) => make("option", {}, task.title)));
  list.addEventListener("change", () => { chosen.task = list.selectedIndex; draw(); });
  const drawing = make("div", { class: "drawing" }), legend = make("ul", { class: "legend" });
  const caption = make("caption"), told = make("p", { role: "status" });
  const body = make("tbody", {}, ...tasks[0].settings[0].rows.map(() =>
    make("tr", {}, ...columns.map((_, place) => (place ? make("td") : make("th", { scope: "row" }))))));
  const table = make("table", {}, caption,
    make("thead", {}, make("tr", {}, ...columns.map(([, name]) => make("th", { scope: "col" }, name)))), body);

  // One scale a task, so that a switch moves the points and nothing else.
  function scale(task, width) {
    const values = task.lines.map((line) => line.at);
    for (const { rows } of task.settings) for (const row of rows) values.push(...row.points, ...(row.theirs ? [row.theirs[0] - row.theirs[1], row.theirs[0] + row.theirs[1]] : []));
    const step = Math.max(...values) - Math.min(...values) > 0.7 ? 0.2 : 0.1;
    const low = Math.floor(Math.min(...values) / step) * step, high = Math.ceil(Math.max(...values) / step) * step;
    const left = 88, right = width - 14;
    const at = (value) => left + ((right - left) * (Math.min(Math.max(value, low), high) - low)) / (high - low);
    const ticks = [...Array(Math.round((high - low) / step) + 1).keys()].map((count) => low + count * step);
    return { at, ticks, low, high };
  }

  function drawRow(row, y, { at, low, high }) {
    const group = make("g", { class: `row ${row.name === "Full model" ? "full" : row.name.toLowerCase()}` });
    const dot = (value, name, text, radius) =>
      group.append(make("circle", { cx: at(value), cy: y + (name === "run" ? -9 : 0), r: radius, class: name }, make("title", {}, text)));
    group.append(make("text", { x: 0, y: y + 4 }, row.name));
    const [from, to] = row.bounds;
    if (from !== null) {
      group.append(make("line", { class: "interval", x1: at(from), x2: at(to), y1: y, y2: y }));
      if (from < low) group.append(make("path", { class: "beyond", d: `M${at(from) - 7},${y}l8,-5v10z` }));
      if (to > high) group.append(make("path", { class: "beyond", d: `M${at(to) + 7},${y}l-8,-5v10z` }));
    }
    row.points.forEach((value) => dot(value, "run", `one seed: ${value.toFixed(3)}`, 3.5));
    group.append(make("path", { class: "mean", d: `M${at(row.value)},${y - 6}l6,6l-6,6l-6,-6z` }, make("title", {}, `mean: ${row.mean}`)));
    if (row.theirs) {
      const [mean, sd] = row.theirs, x = at(mean);
      group.append(make("line", { class: "theirs", x1: at(mean - sd), x2: at(mean + sd), y1: y + 14, y2: y + 14 }));
      group.append(make("path", { class: "theirs", d: `M${x - 4.5},${y + 9.5}h9v9h-9z` }, make("title", {}, `paper: ${row.paper}`)));
    }
    return group;
  }

  function draw() {
    const task = tasks[chosen.task], setting = task.settings.find((each) => each.method === chosen.method && each.phase === chosen.phase);
    const width = Math.max(drawing.clientWidth, 280), axis = scale(task, width), bottom = 28 + setting.rows.length * 52;
    const words = setting.rows.map((row) => `${row.name.toLowerCase()} ${row.mean}`).join(", ");
    const title = `${task.title}, ${task.metric}: ${setting.title}`;
    const picture = make("svg", { width, height: bottom + 26, viewBox: `0 0 ${width} ${bottom + 26}`, role: "img",
      "aria-label": `${title}. Means: ${words}. The table below has all numbers.` });
    for (const value of axis.ticks) {
      picture.append(make("line", { class: "tick", x1: axis.at(value), x2: axis.at(value), y1: 8, y2: bottom }));
      picture.append(make("text", { class: "tick", x: axis.at(value), y: bottom + 18, "text-anchor": "middle" }, (Math.round(value * 10) / 10 + 0).toFixed(1)));
    }
    for (const line of task.lines) {
      picture.append(make("line", { class: `reference ${line.kind}`, x1: axis.at(line.at), x2: axis.at(line.at), y1: 8, y2: bottom },
        make("title", {}, `${line.name}: ${line.told}`)));
    }
    setting.rows.forEach((row, place) => picture.append(drawRow(row, 36 + place * 52, axis)));
    drawing.replaceChildren(picture);

    const sample = (name, drawn) => make("svg", { width: 30, height: 16, "aria-hidden": "true", class: name }, drawn);
    const theirs = setting.rows.some((row) => row.theirs);
    legend.replaceChildren(
      make("li", {}, sample("run", make("circle", { class: "run", cx: 13, cy: 8, r: 3.5 })), "a seed"),
      make("li", {}, sample("", make("path", { class: "mean", d: "M13,2l6,6l-6,6l-6,-6z" })), "mean, with its 95% interval"),
      ...(theirs ? [make("li", {}, sample("", make("path", { class: "theirs", d: "M8,3.5h9v9h-9z" })), "the paper’s mean ± standard deviation (BERT-base)")] : []),
      ...task.lines.map((line) => make("li", {}, sample("", make("line", { class: `reference ${line.kind}`, x1: 0, x2: 24, y1: 8, y2: 8 })), `${line.name}: ${line.told}`)));

    caption.textContent = `${title}. Seeds ${task.seeds}, intervals over ${task.over}.`;
    setting.rows.forEach((row, y) => columns.forEach(([key], x) => { body.rows[y].cells[x].textContent = row[key]; }));
    told.textContent = `Means: ${words}. The subnetworks keep ${setting.size} of the encoder.`;
    dispatchEvent(new Event("resize")); // the table may need other room
  }

  frame.replaceChildren(
    make("div", { class: "choices" }, make("label", {}, make("span", {}, "Task"), list), switches("Subnetworks of", "method"), switches("Scored as", "phase")),
    drawing, legend, told, table);
  draw();
  redrawn(drawing, draw);
};
