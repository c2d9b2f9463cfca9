// Attention on real words: a head, a token, and where it attends. Data: lotterylib.report.pictures.words.
"use strict";
(window.pictures ||= {}).words = (frame, data) => {
  const { make } = acting;
  const kinds = [["raw", "Raw attention"], ["weighted", "Norm-weighted"]];
  let [layer, head, pinned] = data.start, shown = pinned, sentence = 0, task = 0, seed = 0;

  function choice(label, names, choose) {
    const list = make("select", {}, ...names.map((name) => make("option", {}, name)));
    list.addEventListener("change", () => { choose(list.selectedIndex); draw(); });
    return make("label", {}, make("span", {}, label), list);
  }

  // One of many by mouse, touch or arrow keys; rows of `across`.
  function radios(label, count, across, choose) {
    const box = make("div", { role: "radiogroup", "aria-label": label });
    const buttons = [...Array(count).keys()].map((place) => {
      const button = make("button", { type: "button", role: "radio" });
      button.addEventListener("click", () => { choose(place); draw(); });
      return button;
    });
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
      const place = buttons.indexOf(document.activeElement) + (step || 0);
      if (!step) return;
      event.preventDefault();
      if (buttons[place]) { choose(place); draw(); buttons[place].focus(); }
    });
    return { box, buttons };
  }

  function mark(buttons, chosen) {
    buttons.forEach((button, place) => {
      button.setAttribute("aria-checked", place === chosen);
      button.tabIndex = place === chosen ? 0 : -1;
    });
  }

  const [layers, heads] = [data.tasks[0].kept[0].length, data.tasks[0].kept[0][0].length];
  const grid = radios("Layer and head", layers * heads, heads, (place) => {
    [layer, head] = [Math.floor(place / heads), place % heads];
  });
  grid.box.className = "heads";
  grid.box.style.setProperty("--across", heads);
  grid.buttons.forEach((button, place) => {
    if (place % heads === 0) grid.box.append(make("span", { "aria-hidden": "true" }, `L${place / heads + 1}`));
    grid.box.append(button);
  });
  const seeds = make("span"), tokens = make("div", { class: "tokens" }), legend = make("p", { class: "legend" });
  const maps = make("div", { class: "maps" }), bars = make("div", { class: "bars" });
  const told = make("p", { role: "status" });
  let row = null;

  const part = (name) => data.sentences[sentence][name];
  const shares = (kind, from) => {
    const count = part("tokens").length;
    return part(kind)[layer][head].slice(from * count, (from + 1) * count);
  };
  const spelled = (hundredths) => (hundredths / 100).toFixed(2);

  function newSeeds() {
    seed = 0;
    seeds.replaceChildren(choice("Seed", data.tasks[task].seeds, (place) => { seed = place; }));
  }

  function newSentence() {
    const words = part("tokens");
    row = radios("The token that attends", words.length, 1, (place) => { pinned = shown = place; });
    row.buttons.forEach((button, place) => {
      button.append(words[place]);
      button.addEventListener("mouseenter", () => { shown = place; draw(); });
    });
    row.box.addEventListener("mouseleave", () => { shown = pinned; draw(); });
    row.box.append(...row.buttons);
    tokens.replaceChildren(row.box);
  }

  function drawHeads() {
    const { title, kept, seeds: names } = data.tasks[task];
    grid.buttons.forEach((button, place) => {
      const [y, x] = [Math.floor(place / heads), place % heads];
      const count = kept.reduce((sum, each) => sum + each[y][x], 0), good = kept[seed][y][x];
      button.textContent = count;
      button.className = good ? "kept" : "pruned";
      button.setAttribute("aria-label", `Layer ${y + 1}, head ${x + 1}: ${good ? "good" : "pruned"}, `
        + `kept by ${count} of ${kept.length} seeds`);
    });
    mark(grid.buttons, layer * heads + head);
    legend.replaceChildren(make("span", { class: "kept" }, "n"), ` in the good subnetwork of ${title}, seed ${names[seed]}; `,
      make("span", { class: "pruned" }, "n"), ` pruned; n: how many of ${names.length} seeds keep the head.`);
  }

  function drawMaps() {
    const words = part("tokens"), count = words.length;
    maps.replaceChildren(...kinds.map(([kind, name]) => {
      const cells = part(kind)[layer][head], top = Math.max(...cells);
      const picture = make("svg", { viewBox: `-0.1 -0.1 ${count + 0.2} ${count + 0.2}`, role: "img", class: kind,
        "aria-label": `The whole map, ${name}; the row of “${words[shown]}” is framed` });
      cells.forEach((value, place) => {
        const cell = make("rect", { x: place % count, y: Math.floor(place / count), width: 1.02, height: 1.02,
          "fill-opacity": value / top });
        cell.append(make("title", {}, `${words[Math.floor(place / count)]} → ${words[place % count]}: ${spelled(value)}`));
        picture.append(cell);
      });
      picture.append(make("rect", { class: "frame", x: 0, y: shown, width: count, height: 1 }));
      return make("figure", {}, picture, make("figcaption", {}, name));
    }));
  }

  function drawBars() {
    const words = part("tokens"), values = kinds.map(([kind]) => shares(kind, shown));
    const bar = (place, which) => {
      const cell = make("td", { class: kinds[which][0] }, make("span", { class: "bar" }), spelled(values[which][place]));
      cell.style.setProperty("--share", values[which][place] / 100);
      return cell;
    };
    bars.replaceChildren(make("table", {},
      make("caption", {}, `Where “${words[shown]}” attends`),
      make("thead", {}, make("tr", {}, ...[kinds[0][1], "Token", kinds[1][1]].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...words.map((word, place) => make("tr", {}, bar(place, 0), make("th", { scope: "row" }, word), bar(place, 1))))));
  }

  function draw() {
    drawHeads();
    drawMaps();
    drawBars();
    mark(row.buttons, pinned);
    row.buttons.forEach((button, place) => button.classList.toggle("shown", place === shown));
    const words = part("tokens"), { title, kept, seeds: names } = data.tasks[task];
    const most = kinds.map(([kind]) => {
      const values = shares(kind, shown), top = Math.max(...values);
      return `“${words[values.indexOf(top)]}” (${spelled(top)})`;
    });
    const count = kept.reduce((sum, each) => sum + each[layer][head], 0);
    told.textContent = `Layer ${layer + 1}, head ${head + 1}: “${words[shown]}” attends most to ${most[0]}; weighted by `
      + `norms, to ${most[1]}. On ${title}, seed ${names[seed]} ${kept[seed][layer][head] ? "keeps" : "prunes"} this head; `
      + `it is kept by ${count} of ${names.length} seeds.`;
  }

  newSeeds();
  newSentence();
  const spaced = (words) => words.slice(1, -1).join(" ").replace(/ (##|(?=[.,]))/g, "");
  frame.replaceChildren(
    make("div", { class: "choices" },
      choice("Sentence", data.sentences.map((each) => spaced(each.tokens)), (place) => {
        sentence = place;
        pinned = shown = Math.min(pinned, part("tokens").length - 1);
        newSentence();
      }),
      choice("Task", data.tasks.map((each) => each.title), (place) => { task = place; newSeeds(); }), seeds),
    make("div", { class: "side" }, make("div", {}, make("p", { class: "label" }, "Layer and head"), grid.box, legend),
      make("div", {}, make("p", { class: "label" }, "The whole map of this head"), maps)),
    make("p", { class: "label" }, "Token that attends"), tokens, told, bars);
  draw();
};
