// Hunt the winning ticket: twelve switches, and the scores of all subnetworks that they can make.
"use strict";
(window.pictures ||= {}).hunt = (section, data) => {
  const { make, pressed, redrawn } = acting;
  const PHASES = ["pruned", "retrained"];

  const size = (ticket) => ticket.toString(2).replaceAll("0", "").length;
  const shown = (score) => score.toFixed(3);

  const table = make("details", {}, make("summary", {}, "The numbers as a table"));
  table.append(section.querySelector("table"));
  section.classList.add("picture");
  section.setAttribute("role", "group");
  section.setAttribute("aria-label", "Hunt the winning ticket");
  const { layers } = data;
  const tickets = data.pruned.map((_, ticket) => ticket);
  const full = data.pruned.at(-1);
  let ticket = 0, searchShown = false;
  for (let unit = 0; unit < layers; unit += 1) ticket |= 1 << (2 * unit); // every second one

  const scoreOf = { pruned: (one) => data.pruned[one], retrained: (one) => data.retrained[one] };
  const ofSize = (units, phase) => tickets.filter((one) => size(one) === units && scoreOf[phase](one) !== undefined);
  const choice = () => data.path.find((one) => size(one) === size(ticket));

  // The switches
  const board = make("div", { class: "picture-switches", role: "group", "aria-label": "Units of the ticket" });
  board.style.setProperty("--columns", layers);
  board.append(make("span", { class: "name" }, "Layer"));
  for (let layer = 1; layer <= layers; layer += 1) board.append(make("span", {}, layer));
  const switches = [];
  ["Attention", "MLP"].forEach((part, row) => {
    board.append(make("span", { class: "name" }, part));
    for (let layer = 1; layer <= layers; layer += 1) {
      const unit = row * layers + layer - 1;
      const button = make("button", { type: "button", class: row ? "mlp" : "attention" });
      button.setAttribute("aria-label", `${part} of layer ${layer}`);
      button.addEventListener("click", () => take(ticket ^ (1 << unit)));
      button.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layers, ArrowDown: layers }[event.key];
        if (!way) return;
        event.preventDefault();
        switches[unit + way]?.focus();
      });
      switches.push(button);
      board.append(button);
    }
  });

  // What can be asked for
  const controls = make("div", { class: "picture-controls" });
  const control = (text, act) => pressed(controls, text, act);
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  const best = (phase) => {
    const found = ofSize(size(ticket), phase);
    return found.reduce((one, other) => (scoreOf[phase](other) > scoreOf[phase](one) ? other : one), found[0]);
  };
  const search = control("Show the search's choice", () => { searchShown = !searchShown; update(); });
  control("A random one of this size", () => take(any(ofSize(size(ticket), "pruned"))));
  control("The best one, pruned", () => take(best("pruned")));
  const bestRetrained = control("The best one, retrained", () => take(best("retrained")));
  control("The full model", () => take(tickets.at(-1)));

  const said = make("div", { class: "picture-said", role: "status" });
  const pictures = make("div");
  section.replaceChildren(board, controls, said, pictures, table);

  function rank(one, phase) {
    const score = scoreOf[phase](one);
    if (score === undefined) return `${phase} not yet`;
    const all = ofSize(size(one), phase);
    const higher = all.filter((other) => scoreOf[phase](other) > score).length;
    const same = all.filter((other) => scoreOf[phase](other) === score).length;
    const place = same > 1 ? `ranks ${higher + 1} to ${higher + same}` : `rank ${higher + 1}`;
    const part = all.length < ofSize(size(one), "pruned").length ? " retrained so far" : "";
    return `${phase} ${shown(score)}, ${place} of ${all.length}${part}`;
  }

  function tell(name, one) {
    const phases = ofSize(size(one), "retrained").length ? PHASES : ["pruned"];
    const constant = data.constant[one] === "1" ? " As pruned it gives the same answer to every example." : "";
    const line = make("p", {}, make("strong", {}, `${name}: `));
    line.append(`${phases.map((phase) => rank(one, phase)).join("; ")}.${constant}`);
    return line;
  }

  function histogram(phase) {
    const all = ofSize(size(ticket), phase);
    const here = [];
    if (scoreOf[phase](ticket) !== undefined) here.push(["yours", scoreOf[phase](ticket), "mine"]);
    if (searchShown && choice() !== undefined && scoreOf[phase](choice()) !== undefined) {
      here.push(["search's choice", scoreOf[phase](choice()), "search"]);
    }
    const width = Math.max(280, pictures.clientWidth), left = 8, right = 8;
    const top = 8 + 17 * here.length, floor = top + 80, height = floor + 40;
    const lowest = Math.floor(Math.min(...data.pruned) * 20) / 20;
    const highest = Math.ceil(Math.max(...data.pruned, ...Object.values(data.retrained)) * 20) / 20;
    const bins = 40;
    const x = (score) => left + ((score - lowest) / (highest - lowest)) * (width - left - right);
    const counts = Array(bins).fill(0);
    for (const one of all) counts[Math.min(bins - 1, Math.floor(((scoreOf[phase](one) - lowest) / (highest - lowest)) * bins))] += 1;
    const most = Math.max(...counts);
    const marks = [[`${data.threshold * 100}% of the full model`, data.threshold * full, "line", floor + 33]];
    here.forEach(([name, score, kind], line) => marks.push([name, score, kind, 14 + 17 * line]));
    const told = marks.map(([name, score]) => `${name} ${shown(score)}`).join(", ");
    const label = `Scores of ${all.length} tickets of ${size(ticket)} units, ${phase}, from ${shown(Math.min(...all.map(scoreOf[phase])))} to ${shown(Math.max(...all.map(scoreOf[phase])))}; ${told}.`;
    const svg = make("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, width, height });
    counts.forEach((count, bin) => {
      const tall = count ? Math.max(2, Math.sqrt(count / most) * (floor - top)) : 0;
      const step = (width - left - right) / bins;
      svg.append(make("rect", { class: "bar", x: left + bin * step, y: floor - tall, width: step - 1, height: tall }));
    });
    svg.append(make("path", { class: "axis", d: `M${left} ${floor}H${width - right}` }));
    for (let tick = lowest; tick <= highest + 0.001; tick += 0.1) {
      const anchor = x(tick) < 20 ? "start" : x(tick) > width - 20 ? "end" : "middle";
      svg.append(make("text", { x: x(tick), y: floor + 15, "text-anchor": anchor }, tick.toFixed(2)));
    }
    for (const [name, score, kind, y] of marks) {
      const at = x(score), end = at > width / 2;
      svg.append(make("path", { class: `mark ${kind}`, d: `M${at} ${kind === "line" ? top : y + 4}V${kind === "line" ? floor + 36 : floor}` }));
      const place = { class: kind, x: at + (end ? -5 : 5), y, "text-anchor": end ? "end" : "start" };
      svg.append(make("text", place, `${name} ${shown(score)}`));
    }
    const figure = make("figure");
    figure.append(svg, make("figcaption", {}, `${phase === "pruned" ? "Pruned" : "Retrained"}: ${all.length} tickets of ${size(ticket)} units by ${data.metric}; heights are square roots`));
    return figure;
  }

  function update() {
    const chosen = choice();
    switches.forEach((button, unit) => {
      const kept = (ticket >> unit) & 1;
      button.setAttribute("aria-pressed", Boolean(kept));
      button.textContent = kept ? "✓" : "–";
      button.classList.toggle("searched", searchShown && chosen !== undefined && Boolean((chosen >> unit) & 1));
    });
    search.setAttribute("aria-pressed", searchShown);
    const units = size(ticket);
    bestRetrained.disabled = !ofSize(units, "retrained").length;
    said.replaceChildren(make("p", { class: "picture-score" }, `${units} unit${units === 1 ? "" : "s"}, pruned ${shown(data.pruned[ticket])}`), tell("Yours", ticket));
    if (searchShown) {
      const sizes = data.path.map(size).join(", ");
      said.append(chosen === undefined
        ? make("p", {}, `The search has no ticket of this size, only of ${sizes} units.`)
        : tell("The search's choice", chosen));
    }
    pictures.replaceChildren(...PHASES.filter((phase) => ofSize(units, phase).length).map(histogram));
  }

  function take(other) {
    ticket = other;
    update();
  }

  update();
  redrawn(pictures, update);
};
