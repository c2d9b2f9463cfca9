// The search as a film: what goes out of the grid of heads and MLPs, state by state.
"use strict";
(window.pictures ||= {}).film = (section, data) => {
  const { make, pressed, redrawn } = acting;
  const PACE = 1400; // milliseconds that a state stands while the film plays

  const shown = (score) => score.toFixed(3);
  const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

  const table = make("details", {}, make("summary", {}, "The numbers as a table"));
  table.append(section.querySelector("table"));
  section.classList.add("picture");
  section.setAttribute("role", "group");
  section.setAttribute("aria-label", "The search, state by state");
  let { states } = data.searches[0], now = 0, timer = 0, at = 0;
  const heads = states[0].heads[0].length, layers = states[0].heads.length;
  const parts = (state) => [...state.heads.join("") + state.mlps].map(Number);

  // Controls
  const controls = make("div", { class: "picture-controls" });
  const control = (text, act) => pressed(controls, text, act);
  const back = control("Back", () => step(now - 1));
  const play = control("Play", () => (timer ? stop() : start()));
  play.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches; // step by step then
  const forward = control("Forward", () => step(now + 1));
  const slider = make("input", { type: "range", min: 0, value: 0, "aria-label": "State" });
  slider.addEventListener("input", () => step(Number(slider.value)));
  controls.append(slider);
  const seeds = make("select", {});
  data.searches.forEach(({ seed }, place) => seeds.append(make("option", { value: place }, seed)));
  seeds.addEventListener("change", () => {
    ({ states } = data.searches[seeds.value]);
    step(0);
  });
  const named = make("label", {}, "Seed ");
  named.append(seeds);
  controls.append(named);
  controls.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || event.target.matches("select, input")) return;
    event.preventDefault();
    step(now + way);
  });

  const said = make("p", { class: "picture-said", role: "status" });
  const chart = make("div", { class: "picture-chart" });
  const about = make("p", { class: "picture-about" });

  // The grid: a row for each layer, the first on top, a column for each head, the MLP last.
  const grid = make("table", { class: "picture-grid", role: "grid", "aria-label": "Heads and MLPs with their importance" });
  grid.createCaption().textContent = "A row is a layer, a column a head. The fuller a cell, the more important it is.";
  const body = grid.createTBody();
  const names = body.insertRow();
  names.append(make("th", { scope: "col" }, make("span", { class: "picture-hidden" }, "Layer")));
  for (let head = 1; head <= heads; head += 1) names.append(make("th", { scope: "col" }, head));
  names.append(make("th", { scope: "col" }, "MLP"));
  const cells = [];
  for (let layer = 1; layer <= layers; layer += 1) {
    const row = body.insertRow();
    row.append(make("th", { scope: "row" }, layer));
    for (let column = 0; column <= heads; column += 1) {
      const part = column < heads ? (layer - 1) * heads + column : layers * heads + layer - 1;
      const cell = row.insertCell();
      cell.className = column < heads ? "head" : "mlp";
      cell.addEventListener("focus", () => tell(part));
      cell.addEventListener("mouseenter", () => tell(part));
      cell.addEventListener("click", () => cell.focus());
      cell.addEventListener("keydown", (event) => {
        const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
        const [down, right] = moves[event.key] || [0, 0];
        const next = body.rows[row.rowIndex + down]?.cells[cell.cellIndex + right];
        if (!(down || right)) return;
        event.preventDefault();
        if (next?.matches("td")) next.focus();
      });
      cells[part] = cell;
    }
  }
  section.replaceChildren(controls, said, chart, grid, about, table);

  function name(part) {
    if (part >= layers * heads) return `MLP of layer ${part - layers * heads + 1}`;
    return `Head ${(part % heads) + 1} of layer ${Math.floor(part / heads) + 1}`;
  }

  // "open", "closes" (in this step), "undone" (this step, taken back) or "closed".
  function fate(part) {
    if (parts(states[now])[part]) return "open";
    if (now && parts(states[states[now].from])[part]) return states[now].kept ? "closes" : "undone";
    return "closed";
  }

  const words = { open: "open", closes: "closed in this step", undone: "closed in this step and opened again", closed: "closed" };

  function importance(part, was) {
    const state = states[was];
    return `importance ${state.raw[part]}, normalised ${state.importance[part].toFixed(2)}`;
  }

  function describe(part) {
    const what = fate(part);
    if (what === "closed") return `closed before`;
    return `${words[what]}, ${importance(part, what === "closes" ? states[now].from : now)}`;
  }

  function tell(part) {
    at = part;
    cells.forEach((cell, one) => { cell.tabIndex = one === at ? 0 : -1; });
    about.textContent = `${name(part)}: ${describe(part)}.`;
  }

  function plot() {
    const width = Math.max(280, chart.clientWidth), height = 190, left = 14, right = 14, top = 44, floor = 170;
    const scores = states.map((state) => state.score), line = data.threshold * scores[0];
    const low = Math.min(...scores, line), high = Math.max(...scores);
    const wide = (width - left - right) / states.length;
    const x = (state) => left + wide * (state + 0.5);
    const y = (score) => floor - ((score - low) / (high - low)) * (floor - top);
    const heard = `Scores of the ${states.length} states; the ${data.threshold * 100}% line is at ${shown(line)}. `
      + states.map((state, number) => `${number}: ${shown(state.score)}${state.kept ? "" : ", undone"}`).join("; ");
    const svg = make("svg", { role: "img", "aria-label": heard, viewBox: `0 0 ${width} ${height}`, width, height });
    for (let first = 0, band = 0; first < states.length; band += 1) {
      let last = first;
      while (states[last + 1]?.phase === states[first].phase) last += 1;
      const room = wide * (last - first + 1), title = states[first].phase;
      svg.append(make("rect", { class: `band${band % 2}`, x: left + wide * first, y: 2, width: room, height: height - 4 }));
      const label = [title, title.split(" ")[0]].find((words) => words.length * 7 < room);
      if (label) svg.append(make("text", { x: left + wide * first + room / 2, y: 18, "text-anchor": "middle" }, label));
      first = last + 1;
    }
    svg.append(make("path", { class: "mark line", d: `M${left} ${y(line)}H${width - right}` }));
    svg.append(make("text", { class: "line", x: left + 4, y: y(line) - 5 }, `${data.threshold * 100}% line ${shown(line)}`));
    states.forEach((state, number) => {
      if (!number) return;
      const d = `M${x(state.from)} ${y(scores[state.from])}L${x(number)} ${y(state.score)}`;
      svg.append(make("path", { class: state.kept ? "way" : "way lost", d }));
    });
    states.forEach((state, number) => {
      const current = number === now;
      if (current) svg.append(make("circle", { class: "ring", cx: x(number), cy: y(state.score), r: 11 }));
      svg.append(make("circle", { class: state.kept ? "state" : "state lost", cx: x(number), cy: y(state.score), r: 5 }));
      if (current) {
        const anchor = x(number) < 40 ? "start" : x(number) > width - 40 ? "end" : "middle";
        svg.append(make("text", { class: "now", x: x(number), y: y(state.score) - 15, "text-anchor": anchor }, shown(state.score)));
      }
    });
    svg.addEventListener("click", (event) => {
      const inside = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * width;
      step(Math.floor((inside - left) / wide));
    });
    chart.replaceChildren(svg);
  }

  function sentence() {
    const state = states[now], open = parts(state), start = parts(states[state.from]);
    const [some, mlps] = [[0, layers * heads], [layers * heads, open.length]].map(([from, to]) => [
      open.slice(from, to).reduce((sum, one) => sum + one, 0),
      start.slice(from, to).reduce((sum, one) => sum + one, 0) - open.slice(from, to).reduce((sum, one) => sum + one, 0),
    ]);
    const share = `${data.metric} ${shown(state.score)}, ${((state.score / states[0].score) * 100).toFixed(1)}% of the full model's`;
    if (!now) return `State 0 of ${states.length - 1}. Full model: ${count(some[0], "head")} and ${count(mlps[0], "MLP")}, ${share}.`;
    const gone = [some[1] ? count(some[1], "head") : "", mlps[1] ? count(mlps[1], "MLP") : ""].filter(Boolean).join(" and ");
    const verdict = state.kept ? "kept" : `below the line, so undone: the search goes back to state ${state.from}`;
    return `State ${now} of ${states.length - 1}, ${state.phase}. ${gone} closed; ${count(some[0], "head")} and ${count(mlps[0], "MLP")} left, ${share}: ${verdict}.`;
  }

  function update() {
    const state = states[now];
    slider.max = states.length - 1;
    slider.value = now;
    slider.setAttribute("aria-valuetext", `State ${now}, score ${shown(state.score)}`);
    back.disabled = now === 0;
    forward.disabled = now === states.length - 1;
    play.textContent = timer ? "Pause" : "Play";
    said.setAttribute("aria-live", timer ? "off" : "polite");
    said.textContent = sentence();
    cells.forEach((cell, part) => {
      const what = fate(part);
      cell.dataset.fate = what;
      cell.style.setProperty("--importance", what === "closed" ? 0 : state.importance[part]);
      cell.replaceChildren(make("span", { class: "picture-hidden" }, describe(part)));
      if (what === "closes" || what === "undone") cell.append(make("span", { "aria-hidden": "true" }, "×"));
    });
    tell(at);
    plot();
  }

  function go(state) {
    const held = document.activeElement;
    now = Math.min(states.length - 1, Math.max(0, state));
    if (timer && now === states.length - 1) stop();
    update();
    if (held.disabled) slider.focus(); // a button that has just been switched off would lose the keyboard
  }

  // A reader's own step ends the playing.
  function step(state) {
    if (timer) stop();
    go(state);
  }

  function start() {
    if (now === states.length - 1) now = 0;
    timer = setInterval(() => go(now + 1), PACE);
    update();
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    update();
  }

  update();
  redrawn(chart, plot);
};
